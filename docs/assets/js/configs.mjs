// The training config for the chosen settings, per framework. The forms were checked offline with the frameworks' own
// parsers at the versions named here, except where `checked` says otherwise.

export const FRAMEWORKS = [
  { id: "llamafactory", name: "LLaMA-Factory", version: "0.9.5", checked: true },
  { id: "swift", name: "ms-swift", version: "4.6.0", checked: true },
  { id: "trl", name: "TRL", version: "1.16.0", checked: true },
  { id: "peft", name: "PEFT + Trainer", version: "0.21.2 + transformers 5.23.0", checked: true },
  { id: "unsloth", name: "Unsloth", version: "2026.10.9", checked: false },
  { id: "axolotl", name: "axolotl", version: "0.19.0", checked: true },
];
const HUB_ID = /^[\w.-]+\/[\w.-]+$/;

const yaml = (pairs) => pairs.filter(Boolean).map(([key, value]) => `${key}: ${value}`).join("\n") + "\n";

/** Text of the config, or null where the framework has no such method. `c`: {hub, template, remote, epochs, bf16, knobs}. */
export function config(framework, c) {
  if (!HUB_ID.test(c.hub)) return null;
  const { method, recipe, micro_batch: micro, seq_len: length, lora_rank: rank, gradient_checkpointing: checkpointing } = c.knobs;
  const full = method.startsWith("full");
  const four = method === "qlora";
  if (method === "prompt_tuning" && framework !== "peft") return null;
  if (["dora", "lora_8bit"].includes(method)) return null;
  const steps = Math.max(1, Math.round(8 / micro));
  const rate = full ? "1.0e-5" : "1.0e-4";
  const half = c.bf16 === false ? "fp16" : "bf16";
  const paged = four || (recipe === "lean" && !full);
  const adam = method === "full_bf16_adam8bit" ? "adamw_bnb_8bit" : paged ? "paged_adamw_8bit" : "adamw_torch_fused";
  if (framework === "llamafactory")
    return yaml([
      ["model_name_or_path", c.hub],
      c.remote && ["trust_remote_code", true],
      ["stage", "sft"], ["do_train", true], ["finetuning_type", full ? "full" : "lora"],
      !full && ["lora_rank", rank], !full && ["lora_alpha", 2 * rank], !full && ["lora_dropout", 0.05], !full && ["lora_target", "all"],
      four && ["quantization_bit", 4], four && ["quantization_method", "bnb"], four && ["quantization_type", "nf4"], four && ["double_quantization", true],
      ["dataset_dir", "data"], ["dataset", "mine"], c.template && ["template", c.template],
      ["cutoff_len", length], ["packing", false],
      ["per_device_train_batch_size", micro], ["gradient_accumulation_steps", steps],
      !checkpointing && ["disable_gradient_checkpointing", true],
      recipe === "lean" && ["enable_liger_kernel", true],
      ["learning_rate", rate], ["num_train_epochs", c.epochs.toFixed(1)], ["lr_scheduler_type", "cosine"], ["warmup_ratio", 0.1],
      [half, true], method === "full_bf16_adam8bit" && ["pure_bf16", true],
      ["flash_attn", "auto"], ["optim", adam], ["output_dir", "saves/run"], ["logging_steps", 10], ["save_steps", 500], ["report_to", "none"],
    ]);
  if (framework === "swift")
    return [
      `swift sft --model ${c.hub} --use_hf true --tuner_type ${full ? "full" : "lora"}`,
      !full && `--lora_rank ${rank} --lora_alpha ${2 * rank} --target_modules all-linear`,
      four && "--quant_method bnb --quant_bits 4 --bnb_4bit_compute_dtype bfloat16",
      `--torch_dtype ${half === "bf16" ? "bfloat16" : "float16"} --dataset data/train.jsonl --max_length ${length}`,
      `--per_device_train_batch_size ${micro} --gradient_accumulation_steps ${steps} --gradient_checkpointing ${checkpointing}`,
      recipe === "lean" && "--use_liger_kernel true",
      `--optim ${adam} --num_train_epochs ${c.epochs} --learning_rate ${rate} --output_dir out`,
    ].filter(Boolean).join(" \\\n  ") + "\n";
  if (framework === "trl")
    return yaml([
      ["model_name_or_path", c.hub], c.remote && ["trust_remote_code", true],
      ["dtype", half === "bf16" ? "bfloat16" : "float16"], ["attn_implementation", "sdpa"],
      ["dataset_name", "data"], ["output_dir", "out"],
      !full && ["use_peft", true], !full && ["lora_r", rank], !full && ["lora_alpha", 2 * rank], !full && ["lora_dropout", 0.05],
      !full && ["lora_target_modules", "[all-linear]"],
      four && ["load_in_4bit", true], four && ["bnb_4bit_quant_type", "nf4"], four && ["use_bnb_nested_quant", true],
      ["max_length", length], ["packing", false],
      ["per_device_train_batch_size", micro], ["gradient_accumulation_steps", steps], ["gradient_checkpointing", checkpointing],
      ["learning_rate", rate], ["num_train_epochs", c.epochs], ["lr_scheduler_type", "cosine"], ["warmup_steps", 0.03],
      ["optim", adam], [half, true], ["use_liger_kernel", recipe === "lean"], ["report_to", "none"],
    ]);
  if (framework === "axolotl")
    return [
      `base_model: ${c.hub}`, c.remote && "trust_remote_code: true",
      "datasets:\n  - path: data/train.jsonl\n    ds_type: json\n    type: chat_template\n    field_messages: messages",
      !full && `adapter: ${four ? "qlora" : "lora"}\nlora_r: ${rank}\nlora_alpha: ${2 * rank}\nlora_dropout: 0.05\nlora_target_linear: true`,
      `sequence_len: ${length}\nsample_packing: false\nmicro_batch_size: ${micro}\ngradient_accumulation_steps: ${steps}`,
      `num_epochs: ${c.epochs}\noptimizer: ${adam}\nlr_scheduler: cosine\nlearning_rate: ${full ? "0.00001" : "0.0001"}\nwarmup_ratio: 0.1`,
      `${half}: true\ngradient_checkpointing: ${checkpointing}\nattn_implementation: sdpa\noutput_dir: out`,
      four && "load_in_4bit: true",
      recipe === "lean" && "plugins:\n  - axolotl.integrations.liger.LigerPlugin\nliger_fused_linear_cross_entropy: true\nliger_rms_norm: true\nliger_rope: true\nliger_glu_activation: true",
    ].filter(Boolean).join("\n") + "\n";
  const dtype = `torch.${half === "bf16" ? "bfloat16" : "float16"}`;
  if (framework === "unsloth")
    return [
      "from unsloth import FastLanguageModel",
      `model, tokenizer = FastLanguageModel.from_pretrained("${c.hub}", max_seq_length=${length}, dtype=None,`,
      full ? "    load_in_4bit=False, full_finetuning=True)" : four ? "    load_in_4bit=True)" : "    load_in_4bit=False, load_in_16bit=True)",
      !full && `model = FastLanguageModel.get_peft_model(model, r=${rank}, lora_alpha=${2 * rank}, lora_dropout=0.0,`,
      !full && `    use_gradient_checkpointing=${checkpointing ? '"unsloth"' : "False"},`,
      !full && '    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])',
    ].filter(Boolean).join("\n") + "\n";
  return [
    "import torch",
    `from transformers import AutoModelForCausalLM, ${four ? "BitsAndBytesConfig, " : ""}TrainingArguments`,
    !full && `from peft import ${method === "prompt_tuning" ? "PromptTuningConfig" : "LoraConfig"}, get_peft_model${four ? ", prepare_model_for_kbit_training" : ""}`,
    four && `quantisation = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",\n    bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=${dtype})`,
    `model = AutoModelForCausalLM.from_pretrained("${c.hub}", dtype=${method === "full" ? "torch.float32" : dtype}${four ? ", quantization_config=quantisation" : ""})`,
    four && `model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=${checkpointing ? "True" : "False"})`,
    method === "prompt_tuning" && 'model = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=20, prompt_tuning_init="RANDOM"))',
    !full && method !== "prompt_tuning" && `model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=${rank}, lora_alpha=${2 * rank},\n    lora_dropout=0.05, target_modules="all-linear"))`,
    `arguments = TrainingArguments(output_dir="out", per_device_train_batch_size=${micro}, gradient_accumulation_steps=${steps},`,
    `    ${half}=True, activation_checkpointing=${checkpointing ? "True" : "False"}, optim="${adam}", learning_rate=${full ? "1e-5" : "1e-4"},`,
    `    ${recipe === "lean" ? "use_liger_kernel=True, " : ""}num_train_epochs=${c.epochs}, report_to="none")`,
  ].filter(Boolean).join("\n") + "\n";
}

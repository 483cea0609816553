// The training config for the chosen settings, per framework. The forms were checked offline with the frameworks' own
// parsers at the versions named here, except where `checked` says otherwise. Optimiser, dtype and adapters are those of
// the recipe that was measured (measurements/recipes.py), so that the figures beside a config are its figures.

const always = () => true;
export const FRAMEWORKS = [
  { id: "llamafactory", name: "LLaMA-Factory", version: "0.9.5", checked: always },
  { id: "swift", name: "ms-swift", version: "4.6.0", checked: ({ method }) => method !== "full" },
  { id: "trl", name: "TRL", version: "1.16.0", checked: always },
  { id: "peft", name: "PEFT + Trainer", version: "0.21.2 + transformers 5.23.0", checked: ({ method }) => !["dora", "lora_8bit"].includes(method) },
  { id: "unsloth", name: "Unsloth", version: "2026.10.9", checked: () => false },
  { id: "axolotl", name: "axolotl", version: "0.19.0", checked: always },
];
const HUB_ID = /^[\w.-]+\/[\w.-]+$/;

const python = (flag) => (flag ? "True" : "False");
const lines = (parts) => parts.filter(Boolean).join("\n") + "\n";
const shell = (parts) => parts.filter(Boolean).join(" \\\n  ") + "\n";
const yaml = (pairs) => pairs.filter(Boolean).map(([key, value]) => `${key}: ${value}`).join("\n") + "\n";

/** Text of the config, or null where the framework has no such method. `c`: {hub, template, remote, epochs, bf16, knobs}. */
export function config(framework, c) {
  const { method } = c.knobs;
  if (!HUB_ID.test(c.hub)) return null;
  if (["prompt_tuning", "dora", "lora_8bit"].includes(method) && framework !== "peft") return null;
  if (method === "full_bf16_adam8bit" && c.bf16 === false) return null; // fp16 weights cannot be trained in full
  if (framework === "axolotl" && method === "full") return null; // it loads weights in bf16 whenever it trains in bf16
  const full = method.startsWith("full");
  const given = {
    ...c, ...c.knobs, full, four: method === "qlora", lean: c.knobs.recipe === "lean",
    micro: c.knobs.micro_batch, length: c.knobs.seq_len, rank: c.knobs.lora_rank, checkpointing: c.knobs.gradient_checkpointing,
    // full fine-tuning without accumulation: gradients that outlive a step are not in the estimate
    steps: full ? 1 : Math.max(1, Math.round(8 / c.knobs.micro_batch)),
    half: c.bf16 === false ? "fp16" : "bf16", dtype: method === "full" ? "float32" : c.bf16 === false ? "float16" : "bfloat16",
    adam: method === "full_bf16_adam8bit" ? "adamw_bnb_8bit" : "adamw_torch_fused",
  };
  return WRITERS[framework](given);
}

const WRITERS = {
  llamafactory: (c) => yaml([
    ["model_name_or_path", c.hub], c.remote && ["trust_remote_code", true],
    ["stage", "sft"], ["do_train", true], ["finetuning_type", c.full ? "full" : "lora"],
    !c.full && ["lora_rank", c.rank], !c.full && ["lora_alpha", 2 * c.rank], !c.full && ["lora_dropout", 0.05], !c.full && ["lora_target", "all"],
    c.four && ["quantization_bit", 4], c.four && ["quantization_method", "bnb"], c.four && ["quantization_type", "nf4"], c.four && ["double_quantization", true],
    ["dataset_dir", "data"], ["dataset", "mine"], c.template && ["template", c.template],
    ["cutoff_len", c.length], ["packing", false],
    ["per_device_train_batch_size", c.micro], ["gradient_accumulation_steps", c.steps],
    !c.checkpointing && ["disable_gradient_checkpointing", true], c.lean && ["enable_liger_kernel", true],
    ["learning_rate", c.full ? "1.0e-5" : "1.0e-4"], ["num_train_epochs", c.epochs.toFixed(1)], ["lr_scheduler_type", "cosine"], ["warmup_ratio", 0.1],
    [c.half, true], c.method === "full_bf16_adam8bit" && ["pure_bf16", true],
    ["flash_attn", "auto"], ["optim", c.adam], ["output_dir", "saves/run"], ["logging_steps", 10], ["save_steps", 500], ["report_to", "none"],
  ]),

  swift: (c) => shell([
    `swift sft --model ${c.hub} --use_hf true --tuner_type ${c.full ? "full" : "lora"}`,
    !c.full && `--lora_rank ${c.rank} --lora_alpha ${2 * c.rank} --lora_dropout 0.05 --target_modules all-linear`,
    c.four && `--quant_method bnb --quant_bits 4 --bnb_4bit_compute_dtype ${c.dtype}`,
    `--torch_dtype ${c.dtype} --dataset data/train.jsonl --max_length ${c.length}`,
    c.method === "full" && (c.half === "bf16" ? "--bf16 true --fp16 false" : "--bf16 false --fp16 true"),
    `--per_device_train_batch_size ${c.micro} --gradient_accumulation_steps ${c.steps} --gradient_checkpointing ${c.checkpointing}`,
    c.lean && "--use_liger_kernel true",
    `--optim ${c.adam} --num_train_epochs ${c.epochs} --learning_rate ${c.full ? "1e-5" : "1e-4"} --output_dir out`,
  ]),

  trl: (c) => yaml([
    ["model_name_or_path", c.hub], c.remote && ["trust_remote_code", true],
    ["dtype", c.dtype], ["attn_implementation", "sdpa"], ["dataset_name", "data"], ["output_dir", "out"],
    !c.full && ["use_peft", true], !c.full && ["lora_r", c.rank], !c.full && ["lora_alpha", 2 * c.rank], !c.full && ["lora_dropout", 0.05],
    !c.full && ["lora_target_modules", "[all-linear]"],
    c.four && ["load_in_4bit", true], c.four && ["bnb_4bit_quant_type", "nf4"], c.four && ["use_bnb_nested_quant", true],
    ["max_length", c.length], ["packing", false],
    ["per_device_train_batch_size", c.micro], ["gradient_accumulation_steps", c.steps], ["gradient_checkpointing", c.checkpointing],
    ["learning_rate", c.full ? "1.0e-5" : "1.0e-4"], ["num_train_epochs", c.epochs], ["lr_scheduler_type", "cosine"], ["warmup_steps", 0.03],
    ["optim", c.adam], [c.half, true], ["use_liger_kernel", c.lean], ["report_to", "none"],
  ]),

  axolotl: (c) => lines([
    `base_model: ${c.hub}`, c.remote && "trust_remote_code: true",
    "datasets:\n  - path: data/train.jsonl\n    ds_type: json\n    type: chat_template\n    field_messages: messages",
    !c.full && `adapter: ${c.four ? "qlora" : "lora"}\nlora_r: ${c.rank}\nlora_alpha: ${2 * c.rank}\nlora_dropout: 0.05\nlora_target_linear: true`,
    `sequence_len: ${c.length}\nsample_packing: false\nmicro_batch_size: ${c.micro}\ngradient_accumulation_steps: ${c.steps}`,
    `num_epochs: ${c.epochs}\noptimizer: ${c.adam}\nlr_scheduler: cosine\nlearning_rate: ${c.full ? "0.00001" : "0.0001"}\nwarmup_ratio: 0.1`,
    `${c.half}: true\ngradient_checkpointing: ${c.checkpointing}\nattn_implementation: sdpa\noutput_dir: out`,
    c.four && "load_in_4bit: true",
    c.lean && "plugins:\n  - axolotl.integrations.liger.LigerPlugin\nliger_fused_linear_cross_entropy: true\nliger_rms_norm: true\nliger_rope: true\nliger_glu_activation: true",
  ]),

  unsloth: (c) => lines([
    "from datasets import load_dataset\nfrom unsloth import FastLanguageModel\nfrom trl import SFTConfig, SFTTrainer",
    `model, tokenizer = FastLanguageModel.from_pretrained("${c.hub}", max_seq_length=${c.length}, dtype=None,`,
    c.full ? `    load_in_4bit=False, full_finetuning=True, float32_mixed_precision=${python(c.method === "full")})` : `    load_in_4bit=${python(c.four)}, load_in_16bit=${python(!c.four)})`,
    !c.full && `model = FastLanguageModel.get_peft_model(model, r=${c.rank}, lora_alpha=${2 * c.rank}, lora_dropout=0.05,`,
    !c.full && `    use_gradient_checkpointing=${python(c.checkpointing)},`,
    !c.full && '    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])',
    `arguments = SFTConfig(output_dir="out", max_length=${c.length}, per_device_train_batch_size=${c.micro}, gradient_accumulation_steps=${c.steps},`,
    `    ${c.half}=True, optim="${c.adam}", learning_rate=${c.full ? "1e-5" : "1e-4"}, num_train_epochs=${c.epochs}, report_to="none")`,
    'dataset = load_dataset("json", data_files="data/train.jsonl", split="train")',
    "SFTTrainer(model=model, processing_class=tokenizer, args=arguments, train_dataset=dataset).train()",
  ]),

  peft(c) {
    const quantised = c.four || c.method === "lora_8bit";
    const prompt = c.method === "prompt_tuning";
    const dtype = `torch.${c.dtype}`;
    const prepare = quantised && !c.lean; // the lean recipe keeps norms, embeddings and head in bf16
    return lines([
      "import torch",
      `from transformers import AutoModelForCausalLM, AutoTokenizer, ${quantised ? "BitsAndBytesConfig, " : ""}TrainingArguments`,
      !c.full && `from peft import ${prompt ? "PromptTuningConfig" : "LoraConfig"}, get_peft_model${prepare ? ", prepare_model_for_kbit_training" : ""}`,
      c.four && `quantisation = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",\n    bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=${dtype})`,
      c.method === "lora_8bit" && "quantisation = BitsAndBytesConfig(load_in_8bit=True)",
      `tokenizer = AutoTokenizer.from_pretrained("${c.hub}", model_max_length=${c.length})  # truncate samples to it`,
      `model = AutoModelForCausalLM.from_pretrained("${c.hub}", dtype=${dtype}${quantised ? ", quantization_config=quantisation" : ""})`,
      prepare && `model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=${python(c.checkpointing)})`,
      !prepare && !c.full && c.checkpointing && "model.enable_input_require_grads()",
      prompt && 'model = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=20, prompt_tuning_init="RANDOM"))',
      !c.full && !prompt && `model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=${c.rank}, lora_alpha=${2 * c.rank},\n    lora_dropout=0.05, ${c.method === "dora" ? "use_dora=True, " : ""}target_modules="all-linear"))`,
      `arguments = TrainingArguments(output_dir="out", per_device_train_batch_size=${c.micro}, gradient_accumulation_steps=${c.steps},`,
      `    ${c.half}=True, activation_checkpointing=${python(c.checkpointing)}, optim="${c.adam}", learning_rate=${c.full ? "1e-5" : "1e-4"},`,
      `    ${c.lean ? "use_liger_kernel=True, " : ""}num_train_epochs=${c.epochs}, report_to="none")`,
    ]);
  },
};

import assert from "node:assert/strict";
import test from "node:test";
import { config, FRAMEWORKS } from "../../docs/assets/js/configs.mjs";

const knobs = { method: "qlora", recipe: "stock", micro_batch: 2, seq_len: 1024, lora_rank: 16, gradient_checkpointing: true };
const choice = { hub: "owner/name", template: "qwen", remote: false, epochs: 3, bf16: true, knobs };

test("each framework writes the chosen model and length", () => {
  for (const { id } of FRAMEWORKS) {
    const text = config(id, choice);
    assert.ok(text.includes("owner/name"), id);
    assert.match(text, /1024/, id);
    assert.doesNotMatch(text, /undefined|null|NaN|false\n\n/, id);
  }
});

test("QLoRA is 4-bit and full fine-tuning has no adapter", () => {
  for (const { id } of FRAMEWORKS) {
    assert.match(config(id, choice), /4/, id);
    const full = config(id, { ...choice, knobs: { ...knobs, method: "full" } });
    if (full === null) assert.equal(id, "axolotl");
    else assert.doesNotMatch(full, /lora_r|lora_rank|LoraConfig|get_peft_model|load_in_4bit=True|load_in_4bit: true/, id);
  }
});

test("a card without bf16 gets fp16", () => {
  for (const id of ["llamafactory", "trl", "axolotl"]) assert.match(config(id, { ...choice, bf16: false }), /fp16: true/, id);
});

test("a method that a framework lacks has no config, and a strange model id none at all", () => {
  assert.equal(config("trl", { ...choice, knobs: { ...knobs, method: "prompt_tuning" } }), null);
  assert.equal(config("llamafactory", { ...choice, hub: "a/b\nevil: 1" }), null);
});

// Ten different answers: what each config must say of the chosen settings, whatever it calls them.
const ANSWERS = [
  { method: "qlora", recipe: "stock", micro_batch: 1, seq_len: 512, lora_rank: 8, gradient_checkpointing: true },
  { method: "qlora", recipe: "lean", micro_batch: 4, seq_len: 2048, lora_rank: 64, gradient_checkpointing: true },
  { method: "qlora", recipe: "stock", micro_batch: 2, seq_len: 4096, lora_rank: 16, gradient_checkpointing: false },
  { method: "lora", recipe: "stock", micro_batch: 1, seq_len: 1024, lora_rank: 16, gradient_checkpointing: true },
  { method: "lora", recipe: "lean", micro_batch: 8, seq_len: 768, lora_rank: 32, gradient_checkpointing: false },
  { method: "lora", recipe: "stock", micro_batch: 32, seq_len: 256, lora_rank: 4, gradient_checkpointing: true },
  { method: "full", recipe: "stock", micro_batch: 1, seq_len: 8192, lora_rank: 16, gradient_checkpointing: true },
  { method: "full", recipe: "lean", micro_batch: 2, seq_len: 1536, lora_rank: 16, gradient_checkpointing: false },
  { method: "full_bf16_adam8bit", recipe: "stock", micro_batch: 4, seq_len: 640, lora_rank: 16, gradient_checkpointing: true },
  { method: "full_bf16_adam8bit", recipe: "lean", micro_batch: 1, seq_len: 3072, lora_rank: 16, gradient_checkpointing: true },
];

const NAMES = {
  llamafactory: { length: /cutoff_len: (\d+)/, micro: /per_device_train_batch_size: (\d+)/, rank: /lora_rank: (\d+)/, alpha: /lora_alpha: (\d+)/, optim: /optim: (\S+)/, off: /disable_gradient_checkpointing: true/, liger: /enable_liger_kernel: true/, four: /quantization_bit: 4/ },
  swift: { length: /--max_length (\d+)/, micro: /--per_device_train_batch_size (\d+)/, rank: /--lora_rank (\d+)/, alpha: /--lora_alpha (\d+)/, optim: /--optim (\S+)/, off: /--gradient_checkpointing false/, liger: /--use_liger_kernel true/, four: /--quant_bits 4/ },
  trl: { length: /max_length: (\d+)/, micro: /per_device_train_batch_size: (\d+)/, rank: /lora_r: (\d+)/, alpha: /lora_alpha: (\d+)/, optim: /optim: (\S+)/, off: /gradient_checkpointing: false/, liger: /use_liger_kernel: true/, four: /load_in_4bit: true/ },
  peft: { length: /model_max_length=(\d+)/, micro: /per_device_train_batch_size=(\d+)/, rank: /\br=(\d+)/, alpha: /lora_alpha=(\d+)/, optim: /optim="(\w+)"/, off: /activation_checkpointing=False/, liger: /use_liger_kernel=True/, four: /load_in_4bit=True/ },
  unsloth: { length: /max_seq_length=(\d+)/, micro: /per_device_train_batch_size=(\d+)/, rank: /\br=(\d+)/, alpha: /lora_alpha=(\d+)/, optim: /optim="(\w+)"/, four: /load_in_4bit=True/ },
  axolotl: { length: /sequence_len: (\d+)/, micro: /micro_batch_size: (\d+)/, rank: /lora_r: (\d+)/, alpha: /lora_alpha: (\d+)/, optim: /optimizer: (\S+)/, off: /gradient_checkpointing: false/, liger: /LigerPlugin/, four: /load_in_4bit: true/ },
};

test("ten answers: every config carries the chosen values and the optimiser of the measured recipe", () => {
  for (const chosen of ANSWERS) {
    const full = chosen.method.startsWith("full");
    for (const [id, names] of Object.entries(NAMES)) {
      const text = config(id, { ...choice, knobs: chosen });
      if (id === "axolotl" && chosen.method === "full") {
        assert.equal(text, null);
        continue;
      }
      const where = `${id} ${JSON.stringify(chosen)}\n${text}`;
      const given = (pattern) => Number(pattern.exec(text)?.[1]);
      assert.equal(given(names.length), chosen.seq_len, where);
      assert.equal(given(names.micro), chosen.micro_batch, where);
      assert.equal(names.optim.exec(text)?.[1], chosen.method === "full_bf16_adam8bit" ? "adamw_bnb_8bit" : "adamw_torch_fused", where);
      assert.equal(names.four.test(text), chosen.method === "qlora", where);
      if (names.off) assert.equal(names.off.test(text), !chosen.gradient_checkpointing, where);
      if (names.liger) assert.equal(names.liger.test(text), chosen.recipe === "lean", where);
      if (full) assert.doesNotMatch(text, /lora_alpha/, where);
      else assert.deepEqual([given(names.rank), given(names.alpha)], [chosen.lora_rank, 2 * chosen.lora_rank], where);
      const steps = Number(/gradient_accumulation_steps\W+(\d+)/.exec(text)?.[1]);
      assert.equal(steps, full ? 1 : Math.max(1, Math.round(8 / chosen.micro_batch)), where);
    }
  }
});

test("PEFT writes the methods that only it has", () => {
  assert.match(config("peft", { ...choice, knobs: { ...knobs, method: "dora" } }), /use_dora=True/);
  assert.match(config("peft", { ...choice, knobs: { ...knobs, method: "lora_8bit" } }), /load_in_8bit=True/);
  assert.match(config("peft", { ...choice, knobs: { ...knobs, method: "prompt_tuning" } }), /num_virtual_tokens=20/);
  assert.doesNotMatch(config("peft", { ...choice, knobs: { ...knobs, recipe: "lean" } }), /prepare_model_for_kbit_training/);
});

test("fp16 weights cannot be trained in full", () => {
  assert.equal(config("trl", { ...choice, bf16: false, knobs: { ...knobs, method: "full_bf16_adam8bit" } }), null);
});

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

// The ladder "switch this on first": each saving is the difference of two answers, and all together add up.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { BATCH_LIMIT, cardOf, ladder, largestBatch, price } from "../../docs/assets/js/answers.mjs";

const { coefficients: table } = JSON.parse(readFileSync(new URL("../vectors/estimate.json", import.meta.url)));
const card = cardOf("8gb", { gpus: [] }, table);
const model = { hub: "test/qwen" };
const base = { recipe: "stock", micro_batch: 4, seq_len: 4096, gradient_checkpointing: false, lora_rank: 64, lora_targets: "all-linear" };
const NAMES = {
  full: ["lean", "checkpointing", "batch", "adam8bit", "lora", "qlora", "shorter"],
  full_bf16_adam8bit: ["lean", "checkpointing", "batch", "lora", "qlora", "shorter"],
  lora: ["lean", "checkpointing", "batch", "qlora", "rank", "shorter"],
  qlora: ["lean", "checkpointing", "batch", "rank", "shorter"],
};

for (const [method, names] of Object.entries(NAMES)) {
  for (const change of [{}, { gradient_checkpointing: true, micro_batch: 1 }, { recipe: "lean", seq_len: 512 }]) {
    test(`${method} ${JSON.stringify(change)}`, () => {
      const knobs = { ...base, method, ...change };
      const answer = price(table, model, knobs, card);
      const steps = ladder(table, model, answer, card);
      const gone = { lean: knobs.recipe === "lean", checkpointing: knobs.gradient_checkpointing, batch: knobs.micro_batch === 1, shorter: knobs.seq_len === 512 };
      assert.deepEqual(steps.map((step) => step.name), names.filter((name) => !gone[name]));
      let all = knobs;
      for (const step of steps) {
        assert.equal(step.saves, answer.needed - price(table, model, step.knobs, card).needed);
        const changed = Object.keys(knobs).filter((key) => step.knobs[key] !== knobs[key]);
        assert.equal(changed.length, 1, "one switch changes one thing");
        all = { ...all, [changed[0]]: step.knobs[changed[0]] };
        assert.equal(step.needed, price(table, model, all, card).needed);
        assert.equal(step.together, price(table, model, all, card).fits);
      }
    });
  }
}

test("the largest batch fits and the next does not", () => {
  const roomy = cardOf("24gb", { gpus: [] }, table);
  const knobs = { ...base, method: "qlora", gradient_checkpointing: true };
  const batch = largestBatch(table, model, knobs, roomy);
  const fits = (micro_batch) => price(table, model, { ...knobs, micro_batch }, roomy).fits;
  assert.ok(batch >= 1 && batch <= BATCH_LIMIT);
  if (batch > 1) assert.equal(fits(batch), "yes");
  if (batch < BATCH_LIMIT) assert.notEqual(fits(batch + 1), "yes");
});

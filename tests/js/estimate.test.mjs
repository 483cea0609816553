// The browser's evaluator against the vectors that Python wrote: equal to the last bit.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { evaluate, fit, largest } from "../../docs/assets/js/estimate.mjs";

const { coefficients, cases } = JSON.parse(readFileSync(new URL("../vectors/estimate.json", import.meta.url)));

test("every vector is answered to the last bit", () => {
  assert.ok(cases.length > 50);
  for (const { model, gpu, knobs, answer } of cases) {
    const found = evaluate(coefficients, model, knobs, coefficients.gpus[gpu]);
    for (const name of ["allocated", "reserved", "cap", "step_seconds", "pace"]) {
      assert.equal(found[name], answer[name], `${model} ${JSON.stringify(knobs)} ${name}`);
    }
    assert.deepEqual(found.breakdown, answer.breakdown);
  }
});

test("what does not exist is null", () => {
  const { knobs } = cases[0];
  assert.equal(evaluate(coefficients, "no/such", knobs), null);
  assert.equal(evaluate(coefficients, "test/gpt2", { ...knobs, recipe: "lean" }), null);
});

test("fit and largest agree", () => {
  const { model, gpu, knobs } = cases.find((one) => one.model === "test/gpt2");
  const card = coefficients.gpus[gpu];
  const fits = (seq_len) => {
    const other = { ...knobs, seq_len };
    return fit(coefficients, model, other, card, evaluate(coefficients, model, other)).fits === "yes";
  };
  const longest = largest(fits, 64, 1 << 20);
  assert.ok(longest > 0 && fits(longest) && !fits(longest + 64));
});

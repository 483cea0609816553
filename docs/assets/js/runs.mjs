// Measured runs in the browser: /api/v1/measured.json, looked up as generator/estimate_answer.py `case_key` does.
import { setId } from "./estimate.mjs";

const ADAPTERS = ["lora", "qlora", "lora_8bit", "dora"];
const PARTS = ["weights", "adapters", "gradients", "optimizer", "activations", "logits", "other"];

/** The key of one case: rank and targets count only where there are adapters. */
export function caseKey(hub, knobs, gpu) {
  const adapters = ADAPTERS.includes(knobs.method);
  const targets = Array.isArray(knobs.lora_targets) ? knobs.lora_targets.join(" ") : knobs.lora_targets;
  const set = setId(knobs.recipe, knobs.method, knobs.gradient_checkpointing);
  return [hub, gpu, set, knobs.micro_batch, knobs.seq_len, adapters ? knobs.lora_rank : 0, adapters ? targets : ""].join("|");
}

/** The document as a Map from `caseKey` to {allocated, reserved, cap, context, rate, breakdown, environment}. */
export function readRuns(document) {
  const found = new Map();
  for (const [hub, rows] of Object.entries(document.runs)) {
    for (const [gpu, set, micro, length, rank, targets, allocated, reserved, cap, context, rate, sizes, environment] of rows) {
      const breakdown = sizes && Object.fromEntries(PARTS.map((name, i) => [name, sizes[i]]).filter(([, size]) => size !== null));
      found.set([hub, gpu, set, micro, length, rank, targets].join("|"),
        { allocated, reserved, cap, context, rate, breakdown, environment: document.environments[environment] });
    }
  }
  return found;
}

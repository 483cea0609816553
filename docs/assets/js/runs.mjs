// Measured runs in the browser: /api/v1/measured/<gpu>.json (or measured.json, all cards at once), looked up as
// generator/estimate_answer.py `case_key` does.
import { setId } from "./estimate.mjs";

const ADAPTERS = ["lora", "qlora", "lora_8bit", "dora"];
const PARTS = ["weights", "adapters", "gradients", "optimizer", "activations", "logits", "other"];
const PACES = ["gpu", "processor"];

/** The key of one case: rank and targets count only where there are adapters. */
export function caseKey(hub, knobs, gpu) {
  const adapters = ADAPTERS.includes(knobs.method);
  const targets = Array.isArray(knobs.lora_targets) ? knobs.lora_targets.join(" ") : knobs.lora_targets;
  const set = setId(knobs.recipe, knobs.method, knobs.gradient_checkpointing);
  return [hub, gpu, set, knobs.micro_batch, knobs.seq_len, adapters ? knobs.lora_rank : 0, adapters ? targets : ""].join("|");
}

/** The document as a Map from `caseKey` to {allocated, reserved, cap, context, rate, breakdown, environment, pace, processor_pace}. */
export function readRuns(document) {
  const found = new Map();
  for (const [hub, rows] of Object.entries(document.runs)) {
    for (const [gpu, set, micro, length, rank, targets, allocated, reserved, cap, context, rate, sizes, environment, pace, processorPace] of rows) {
      const breakdown = sizes && Object.fromEntries(PARTS.map((name, i) => [name, sizes[i]]).filter(([, size]) => size !== null));
      found.set([hub, gpu, set, micro, length, rank, targets].join("|"),
        { allocated, reserved, cap, context, rate, breakdown, environment: document.environments[environment], pace: PACES[pace] ?? null, processor_pace: processorPace ?? null });
    }
  }
  return found;
}

const ordered = new WeakMap(); // the Map of readRuns → Map from a case's key without its size to its runs by tokens

/** The nearest measured runs with fewer and with more tokens that differ in nothing else: [low, high], or null. */
export function bracketOf(runs, hub, knobs, gpu) {
  if (!ordered.has(runs)) {
    const groups = new Map();
    for (const [key, run] of runs) {
      const [model, card, set, micro, length, ...rest] = key.split("|");
      const group = [model, card, set, 1, 1, ...rest].join("|");
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push({ ...run, micro: Number(micro), length: Number(length), tokens: micro * length });
    }
    for (const group of groups.values()) group.sort((a, b) => a.tokens - b.tokens || a.micro - b.micro);
    ordered.set(runs, groups);
  }
  const alike = ordered.get(runs).get(caseKey(hub, { ...knobs, micro_batch: 1, seq_len: 1 }, gpu)) ?? [];
  const tokens = knobs.micro_batch * knobs.seq_len;
  const low = alike.findLast((run) => run.tokens < tokens);
  const high = alike.find((run) => run.tokens > tokens);
  return low && high ? [low, high] : null;
}

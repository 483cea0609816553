// From the reader's choices to answers: which method, how much memory, how long. Sums come from estimate.mjs; a measured
// run takes the estimate's place as in generator/estimate_answer.py (`Estimator.estimate`), whose twin `price` is.
import { GIB } from "./elements.mjs";
import { evaluateFound, find, largest, speedBand } from "./estimate.mjs";
import { bracketOf, caseKey } from "./runs.mjs";

export { GIB };
const METHODS = ["lora", "qlora", "full", "full_bf16_adam8bit", "lora_8bit", "dora", "prompt_tuning"];
const FOR_ME = 2; // methods that "choose for me" tries, in this order
const RECIPES = ["stock", "lean"];
export const BATCH_LIMIT = 64;
// A card known by its size only: 97.5 % of it usable (cards sold as 12, 24 and 80 GB report 97.9, 98.0 and 98.9 % to torch).
const BY_SIZE = { usable: 0.975 * GIB, context: 0.6 * GIB };
// As generator/estimate_answer.py: spread of repeated measurements (bytes, rate that the GPU paced, rate that the processor
// or nobody knows what paced), and of a card whose rates were never measured.
const REPEATED = 0.005, REPEATED_RATE = 0.03, LAUNCHED_RATE = 0.35;
const UNMEASURED_CARD = [0.75, 1.3], KEPT_PER_CARD = 0.85, SHARDED_WIDTH = 0.2;

/** Several equal cards, also where the catalog has no such machine: "3x-rtx-3060-12gb", "2x-24gb". */
export const SEVERAL = /^([2-9]|1[0-6])x-(.+)$/;

/** The card behind a choice: {id, name, gb, figures, count, usd, entry, single, substitute}. */
export function cardOf(choice, data, table) {
  const several = data.gpus.some((gpu) => gpu.id === choice) ? null : SEVERAL.exec(choice);
  if (several) {
    const [count, one] = [Number(several[1]), cardOf(several[2], data, table)];
    const known = one.count === 1 && !one.substitute && (one.id === several[2] || !one.entry);
    if (known) return { ...one, id: choice, name: `${count} × ${one.name}`, count, usd: one.usd && count * one.usd };
  }
  const size = /^(\d{1,4})gb$/.exec(choice);
  if (size) return { ...bySize(Number(size[1])), id: choice, single: null, count: 1, usd: null, entry: null };
  let entry = data.gpus.find((gpu) => gpu.id === choice) ?? data.gpus.find((gpu) => gpu.id === "rtx-4090") ?? data.gpus[0];
  let substitute = null;
  if (entry.count === 0 || entry.gb === 0) {
    substitute = entry;
    entry = data.gpus.find((gpu) => gpu.id === "t4") ?? entry;
  }
  const single = entry.card ?? entry.id;
  const figures = table.gpus[single] ?? table.gpus[entry.id] ?? bySize(entry.gb).figures;
  return { id: entry.id, name: entry.name, gb: entry.gb, figures, count: Math.max(entry.count, 1), usd: entry.usd, entry, single, substitute };
}

const bySize = (gb) => ({
  name: `${gb} GB`,
  gb,
  figures: { usable_bytes: gb * BY_SIZE.usable, context_bytes: BY_SIZE.context, matmul_flops: null },
});

/** One card's share under FSDP full sharding: states divided, two gathered layers (twin of `shard`). */
function shard(one, architecture, count) {
  const breakdown = { ...one.breakdown };
  const states = breakdown.weights + breakdown.adapters + breakdown.gradients + breakdown.optimizer;
  const layer = breakdown.weights / Math.max(architecture.layers, 1);
  for (const name of ["weights", "adapters", "gradients", "optimizer"]) breakdown[name] /= count;
  breakdown.other = 2 * layer;
  const allocated = one.allocated - (states * (1 - 1 / count) - 2 * layer);
  const share = allocated / one.allocated;
  const seconds = one.step_seconds ? one.step_seconds / KEPT_PER_CARD : null;
  return { allocated, reserved: one.reserved * share, cap: one.cap * share, breakdown, step_seconds: seconds };
}

const spread = (value, [low, high]) => [value * Math.max(low, 0), value * high];
const around = (value, share) => [value * (1 - share), value * (1 + share)];
const wider = ([low, high]) => [1 - Math.max(2 * (1 - low), SHARDED_WIDTH), 1 + Math.max(2 * (high - 1), SHARDED_WIDTH)];

/** An answer times what measurement over estimate is at both runs, interpolated in the logarithm of tokens (twin of
 * `Bracket.correct`). */
function between([low, high], one, ask, knobs) {
  const ends = [low, high].map((run) => Math.log(run.tokens));
  const share = (Math.log(knobs.micro_batch * knobs.seq_len) - ends[0]) / (ends[1] - ends[0]);
  const asked = [low, high].map((run) => ask({ ...knobs, micro_batch: run.micro, seq_len: run.length, processor_pace: run.processor_pace }));
  const factor = (measured, estimated) => {
    const found = [low, high].map((run, i) => [measured(run), estimated(asked[i])]);
    if (found.some(([top, bottom]) => !top || !bottom)) return 1;
    const [first, last] = found.map(([top, bottom]) => top / bottom);
    return first + share * (last - first);
  };
  const allocated = one.allocated * factor((run) => run.allocated, (a) => a.allocated);
  const cap = Math.max(one.cap * factor((run) => run.cap, (a) => a.cap), allocated);
  const reserved = Math.max(one.reserved * factor((run) => run.reserved, (a) => a.reserved), cap);
  const pace = factor((run) => run.rate && run.tokens / run.rate, (a) => a.step_seconds);
  const breakdown = { ...one.breakdown, activations: one.breakdown.activations + allocated - one.allocated };
  return { ...one, allocated, cap, reserved, breakdown, step_seconds: one.step_seconds && one.step_seconds * pace };
}

/**
 * One set-up on one card, or null where the table has no coefficients for it. Bytes and tokens per second:
 * {knobs, allocated, reserved, cap, needed, low, high (of needed), fits, breakdown, tokens_per_second, pace, ranges, basis, run}.
 */
export function price(table, model, knobs, card) {
  const found = find(table, model.hub, knobs);
  if (!found) return null;
  const many = card.count > 1;
  const ask = (other) => evaluateFound(table, found, other, card.figures);
  const run = many || !card.single ? undefined : table.runs?.get(caseKey(model.hub, knobs, card.single));
  const ends = many || !card.single || run || !table.runs ? null : bracketOf(table.runs, model.hub, knobs, card.single);
  const one = ends ? between(ends, ask(knobs), ask, knobs) : ask(knobs);
  const answer = many ? shard(one, found.architecture, card.count) : one;
  const bands = found.set.bands[ends ? "interpolated" : found.basis];
  const band = (name) => (many ? wider(bands[name]) : bands[name]);
  let { allocated, reserved, cap, breakdown } = answer;
  let context = card.figures.context_bytes;
  let basis = ends || found.basis === "interpolated" ? "interpolated" : "estimated";
  let rate = answer.step_seconds ? (knobs.micro_batch * knobs.seq_len * card.count) / answer.step_seconds : null;
  const ranges = { allocated: spread(allocated, band("allocated")), reserved: spread(reserved, band("reserved")), cap: spread(cap, band("cap")), rate: null };
  if (rate) {
    const pace = speedBand(bands, one.pace, knobs.processor_pace != null);
    const [low, high] = spread(rate, many ? wider(pace) : pace);
    ranges.rate = card.figures.measured ? [low, high] : [low * UNMEASURED_CARD[0], high * UNMEASURED_CARD[1]];
  }
  if (run) {
    basis = "measured";
    allocated = run.allocated;
    ranges.allocated = around(allocated, REPEATED);
    if (run.reserved !== null) ranges.reserved = around((reserved = run.reserved), REPEATED);
    if (run.cap !== null) ranges.cap = around((cap = run.cap), REPEATED);
    if (run.rate !== null) ranges.rate = around((rate = run.rate), run.pace === "gpu" ? REPEATED_RATE : LAUNCHED_RATE);
    breakdown = run.breakdown ?? breakdown;
    context = run.context || context;
  }
  const [low, high] = ranges.cap.map((edge) => edge + context);
  const needed = cap + context;
  const usable = card.figures.usable_bytes;
  const fits = high <= usable ? "yes" : needed > usable ? "no" : "tight";
  return { knobs, allocated, reserved, cap, needed, low, high, fits, breakdown, tokens_per_second: rate, pace: one.pace, ranges, basis, run, sharded: many };
}

/** Largest micro-batch, up to BATCH_LIMIT, that surely fits by the estimate (one card); 1 where none does. */
export function largestBatch(table, model, knobs, card) {
  const estimates = { ...card, single: null }; // a measured batch among estimated ones would break the search
  return largest((micro) => price(table, model, { ...knobs, micro_batch: micro }, estimates)?.fits === "yes", 1, BATCH_LIMIT) || 1;
}

function knobsOf(state, task, method, recipe) {
  return {
    recipe, method, gradient_checkpointing: Boolean(state.k), micro_batch: state.b || 1,
    seq_len: state.s || task.seq_len, lora_rank: state.a, lora_targets: "all-linear",
  };
}

const CLASS = { yes: 0, tight: 1, no: 2 };

/** The best set-up for one model: the first of the allowed ones that fits, else that which needs least. */
export function answerFor(table, model, state, task, card) {
  const methods = state.m === "auto" ? METHODS.slice(0, FOR_ME) : [state.m];
  const recipes = state.r === "auto" ? RECIPES : [state.r];
  let best = null;
  for (const method of methods) {
    for (const recipe of recipes) {
      const knobs = knobsOf(state, task, method, recipe);
      if (!find(table, model.hub, knobs)) continue;
      if (!state.b) knobs.micro_batch = largestBatch(table, model, knobs, card);
      const found = price(table, model, knobs, card);
      const better = !best || CLASS[found.fits] < CLASS[best.fits] || (found.fits === "no" && best.fits === "no" && found.needed < best.needed);
      if (better) best = found;
      if (best.fits === "yes") return best;
    }
  }
  return best;
}

/** Hours for all samples and epochs, or null where the speed is unknown. Samples count as full length. */
export function hours(answer, samples, epochs) {
  return answer?.tokens_per_second ? (samples * epochs * answer.knobs.seq_len) / answer.tokens_per_second / 3600 : null;
}

/** What each switch saves, cheapest for the reader first: [{name, saves, fits, needed, together, knobs}]. Sizes are bytes. */
export function ladder(table, model, answer, card) {
  const now = answer.knobs;
  const adapters = !now.method.startsWith("full") && now.method !== "prompt_tuning";
  const switches = [
    ["lean", now.recipe === "stock" && { recipe: "lean" }],
    ["checkpointing", !now.gradient_checkpointing && { gradient_checkpointing: true }],
    ["batch", now.micro_batch > 1 && { micro_batch: 1 }],
    ["adam8bit", now.method === "full" && { method: "full_bf16_adam8bit" }],
    ["lora", now.method.startsWith("full") && { method: "lora" }],
    ["qlora", now.method !== "qlora" && now.method !== "prompt_tuning" && { method: "qlora" }],
    ["rank", adapters && now.lora_rank > 8 && { lora_rank: 8 }],
    ["shorter", now.seq_len > 512 && { seq_len: Math.max(512, Math.floor(now.seq_len / 2)) }],
  ];
  const steps = [];
  let all = { ...now };
  for (const [name, change] of switches) {
    const then = change && price(table, model, { ...now, ...change }, card);
    if (!then) continue;
    const together = price(table, model, { ...all, ...change }, card) ?? then;
    all = together.knobs;
    steps.push({ name, saves: answer.needed - then.needed, fits: then.fits, together: together.fits, needed: together.needed, knobs: then.knobs });
  }
  return steps;
}

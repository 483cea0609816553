// From the reader's choices to answers: which method, how much memory, how long. Every figure comes from estimate.mjs.
import { evaluate, find, fit, largest } from "./estimate.mjs";

export const GIB = 1024 ** 3;
const AUTO = [["lora", "stock"], ["lora", "lean"], ["qlora", "stock"], ["qlora", "lean"]];
// A card known by its size only: 97.5 % of it usable (cards sold as 12, 24 and 80 GB report 97.9, 98.0 and 98.9 % to torch).
const BY_SIZE = { usable: 0.975 * GIB, context: 0.6 * GIB };

/** The card behind a choice: {id, name, gb, figures, count, usd, entry, substitute}. */
export function cardOf(choice, data, table) {
  const size = /^(\d{1,4})gb$/.exec(choice);
  if (size) return { ...bySize(Number(size[1])), id: choice, count: 1, usd: null, entry: null };
  let entry = data.gpus.find((gpu) => gpu.id === choice) ?? data.gpus.find((gpu) => gpu.id === "rtx-4090") ?? data.gpus[0];
  let substitute = null;
  if (entry.count === 0 || entry.gb === 0) {
    substitute = entry;
    entry = data.gpus.find((gpu) => gpu.id === "t4") ?? entry;
  }
  const figures = table.gpus[entry.card] ?? table.gpus[entry.id] ?? bySize(entry.gb).figures;
  return { id: entry.id, name: entry.name, gb: entry.gb, figures, count: Math.max(entry.count, 1), usd: entry.usd, entry, substitute };
}

const bySize = (gb) => ({
  name: `${gb} GB`,
  gb,
  figures: { usable_bytes: gb * BY_SIZE.usable, context_bytes: BY_SIZE.context, matmul_flops: null },
});

/** One set-up on one card. null where the table has no coefficients for it. */
export function price(table, model, knobs, card) {
  const found = find(table, model.hub, knobs);
  if (!found) return null;
  const one = evaluate(table, model.hub, knobs, card.figures);
  let answer = one;
  let verdict = fit(table, model.hub, knobs, card.figures, one);
  const bands = found.set.bands[found.basis];
  let speedBand = bands.speed;
  if (card.count > 1) {
    // As `shard` in generator/estimate_answer.py: states divided, two gathered layers, intervals twice as wide.
    const breakdown = { ...one.breakdown };
    const layer = breakdown.weights / Math.max(found.architecture.layers, 1);
    const states = breakdown.weights + breakdown.adapters + breakdown.gradients + breakdown.optimizer;
    const peak = one.allocated - (states * (1 - 1 / card.count) - 2 * layer);
    const share = peak / one.allocated;
    for (const name of ["weights", "adapters", "gradients", "optimizer"]) breakdown[name] /= card.count;
    breakdown.other = 2 * layer;
    const cap = one.cap * share;
    const wide = ([low, high]) => [Math.max(0, 1 - 2 * (1 - low)), 1 + 2 * (high - 1)];
    const [low, high] = wide(bands.cap);
    const context = card.figures.context_bytes;
    const needed = cap + context;
    const upper = cap * high + context;
    const fits = upper <= card.figures.usable_bytes ? "yes" : needed > card.figures.usable_bytes ? "no" : "tight";
    answer = { ...one, allocated: peak, cap, reserved: one.reserved * share, breakdown };
    verdict = { needed, low: cap * low + context, high: upper, fits };
    speedBand = wide(bands.speed);
  }
  const rate = one.tokens_per_second ? (card.count > 1 ? one.tokens_per_second * card.count * 0.85 : one.tokens_per_second) : null;
  const guess = card.figures.measured ? [1, 1] : [0.75, 1.3];
  return {
    knobs, ...answer, ...verdict, sharded: card.count > 1, tokens_per_second: rate,
    speed: rate ? [rate * speedBand[0] * guess[0], rate * speedBand[1] * guess[1]] : null,
    basis: card.count > 1 ? "estimated" : answer.basis,
  };
}

function knobsOf(state, task, method, recipe, micro) {
  return {
    recipe, method, gradient_checkpointing: Boolean(state.k), micro_batch: micro,
    seq_len: state.s || task.seq_len, lora_rank: state.a, lora_targets: "all-linear",
  };
}

function priced(table, model, state, task, card, method, recipe) {
  if (state.b > 0) return price(table, model, knobsOf(state, task, method, recipe, state.b), card);
  const fits = (micro) => price(table, model, knobsOf(state, task, method, recipe, micro), card)?.fits === "yes";
  return price(table, model, knobsOf(state, task, method, recipe, largest(fits, 1, 64) || 1), card);
}

const CLASS = { yes: 0, tight: 1, no: 2 };

/** The best set-up for one model: the first of the allowed ones that fits, else that which needs least. */
export function answerFor(table, model, state, task, card) {
  const ways = AUTO.concat([["full", "stock"], ["full", "lean"], ["full_bf16_adam8bit", "stock"], ["full_bf16_adam8bit", "lean"],
    ["lora_8bit", "stock"], ["lora_8bit", "lean"], ["dora", "stock"], ["dora", "lean"], ["prompt_tuning", "stock"], ["prompt_tuning", "lean"]])
    .filter(([method, recipe], i) => (state.m === "auto" ? i < AUTO.length : method === state.m) && (state.r === "auto" || recipe === state.r));
  let best = null;
  for (const [method, recipe] of ways) {
    const found = priced(table, model, state, task, card, method, recipe);
    if (!found) continue;
    if (!best || CLASS[found.fits] < CLASS[best.fits] || (found.fits === "no" && best.fits === "no" && found.needed < best.needed)) best = found;
    if (best.fits === "yes") break;
  }
  return best;
}

/** Hours for all samples and epochs, or null where the speed is unknown. Samples count as full length. */
export function hours(answer, samples, epochs) {
  return answer?.tokens_per_second ? (samples * epochs * answer.knobs.seq_len) / answer.tokens_per_second / 3600 : null;
}

/** What each switch saves, cheapest for the reader first: [{name, saves, fits, knobs}]. Sizes are bytes. */
export function ladder(table, model, answer, card) {
  const now = answer.knobs;
  const switches = [
    ["lean", now.recipe === "stock" && { recipe: "lean" }],
    ["checkpointing", !now.gradient_checkpointing && { gradient_checkpointing: true }],
    ["batch", now.micro_batch > 1 && { micro_batch: 1 }],
    ["adam8bit", now.method === "full" && { method: "full_bf16_adam8bit" }],
    ["lora", now.method.startsWith("full") && { method: "lora" }],
    ["qlora", now.method !== "qlora" && now.method !== "prompt_tuning" && { method: "qlora" }],
    ["rank", !now.method.startsWith("full") && now.lora_rank > 8 && { lora_rank: 8 }],
    ["shorter", now.seq_len > 512 && { seq_len: Math.max(512, Math.floor(now.seq_len / 2)) }],
  ];
  const steps = [];
  const all = { ...now };
  for (const [name, change] of switches) {
    if (!change) continue;
    const then = price(table, model, { ...now, ...change }, card);
    if (!then) continue;
    const together = price(table, model, Object.assign(all, change), card);
    steps.push({ name, saves: answer.needed - then.needed, fits: then.fits, together: together?.fits ?? then.fits, needed: together?.needed ?? then.needed, knobs: then.knobs });
  }
  return steps;
}

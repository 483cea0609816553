// Twin of generator/estimate.py `evaluate`: the same operations in the same order, so both give the same doubles.
// Input is /api/v1/coefficients.json; the format is described at the top of generator/estimate.py. Bytes and seconds.

const WORK_RANK = 16; // the rank at which adapters' bytes and launches are counted
const LOGIT_BYTES = 6; // moved per logit of a fused loss

/** Whether everything is known of a card that the time of a step takes. */
export const timesSteps = (gpu) =>
  Boolean(gpu.matmul_flops && gpu.attention_flops && gpu.bandwidth && gpu.kernel_seconds && gpu.launch_seconds && gpu.layer_seconds);

export const setId = (recipe, method, checkpointing) => `${recipe}/${method}/${checkpointing ? "on" : "off"}`;

export function chunkTokens(tokens, chunks) {
  const wanted = Math.ceil(tokens / chunks);
  let chunk = 1;
  while (chunk < wanted) chunk *= 2;
  return Math.min(chunk, tokens);
}

const numbers = new WeakMap(); // table → {set id: index}; looked up thousands of times per answer

function setIndex(table, id) {
  let known = numbers.get(table);
  if (!known) numbers.set(table, (known = new Map(table.sets.map((entry, i) => [entry.id, i]))));
  return known.get(id);
}

/** What a case needs: {set, architecture, rows, speed, basis}, or null when the table has no such combination. */
export function find(table, hubId, knobs) {
  const index = setIndex(table, setId(knobs.recipe, knobs.method, knobs.gradient_checkpointing));
  const architecture = table.architectures[table.models[hubId]];
  const cell = architecture?.cells[index];
  if (!cell) return null;
  const [rows, speed, basis, extra = null] = cell;
  return { set: table.sets[index], architecture, rows, speed, basis: table.bases[basis], extra };
}

/**
 * knobs: {recipe, method, gradient_checkpointing, micro_batch, seq_len, lora_rank, lora_targets, processor_pace}, lora_targets being
 * "all-linear" or an array of module names. gpu: an entry of table.gpus or null.
 * Returns {allocated, reserved, cap, breakdown, step_seconds, tokens_per_second, basis} or null.
 */
export function evaluate(table, hubId, knobs, gpu = null) {
  const found = find(table, hubId, knobs);
  return found && evaluateFound(table, found, knobs, gpu);
}

/** The same for what `find` has found. */
export function evaluateFound(table, found, knobs, gpu = null) {
  const { set, architecture, rows, speed, basis, extra } = found;
  const u = table.row_units;
  const seq = knobs.seq_len + set.virtual_tokens;
  const tokens = knobs.micro_batch * seq;
  const pairs = tokens * seq;
  const chunk = chunkTokens(tokens, architecture.chunks);
  let rank = knobs.lora_rank;
  let perRank = architecture.per_rank;
  let untargeted = 0;
  let inLayer = 0;
  let share = 1;
  let modules = 1;
  if (set.trained === "adapters" && knobs.lora_targets !== "all-linear") {
    let total = 0;
    let inputs = 0;
    let kept = 0;
    let names = 0;
    let parametersOfAll = 0;
    const linears = Object.entries(architecture.linears);
    for (const [name, [parameters, width]] of linears) {
      total += width;
      parametersOfAll += parameters;
      if (knobs.lora_targets.includes(name)) {
        kept += parameters;
        inputs += width;
        names += 1;
      }
    }
    rank = (rank * kept) / perRank;
    share = kept / parametersOfAll;
    modules = names / linears.length;
    untargeted = (total - inputs) * set.target_bytes;
    inLayer = ((total - inputs) * set.layer_target_bytes) / architecture.layers;
    perRank = kept;
  }
  let peak = 0;
  let alive = 0;
  for (const row of rows) {
    let value = row[0] * u[0];
    value += row[1] * u[1] * rank;
    value += row[2] * u[2] * tokens;
    value += row[3] * u[3] * rank * tokens;
    value += row[4] * u[4] * pairs;
    value += row[5] * u[5] * chunk;
    value -= (untargeted + row[6] * inLayer) * tokens;
    if (value > peak) {
      peak = value;
      alive = row[6];
    }
  }

  const weights = architecture.weights[set.weights] * u[0];
  let trained = architecture.parameters;
  let adapters = 0;
  if (set.trained !== "all") {
    trained = set.trained === "adapters" ? perRank * knobs.lora_rank : architecture.prompt;
    adapters = trained * set.parameter_bytes;
  }
  const optimizer = trained * set.optimizer_bytes;
  let rest = peak - weights - adapters - optimizer;
  const gradients = alive ? Math.min(trained * set.gradient_bytes, Math.max(rest, 0)) : 0;
  rest -= gradients;
  const fullLogits = architecture.vocab * set.logit_bytes * tokens;
  const logits = alive ? 0 : Math.min(fullLogits, Math.max(rest, 0));
  rest -= logits;
  const breakdown = { weights, adapters, gradients, optimizer, activations: rest, logits, other: 0 };
  let cap = Math.max(set.cap[0] + set.cap[1] * peak + set.cap[2] * fullLogits, peak);
  let reserved = Math.max(set.reserved[0] + set.reserved[1] * peak + set.reserved[2] * fullLogits, cap);
  if (extra) {
    cap = Math.max(peak + (extra[0] * u[0] + extra[1] * u[2] * tokens), peak);
    reserved = Math.max(peak + (extra[2] * u[0] + extra[3] * u[2] * tokens), cap);
  }
  let seconds = null;
  let pace = null;
  if (gpu && timesSteps(gpu)) {
    const v = table.speed_units;
    const at = (i) => (speed[i] ?? 0) * v[i];
    let moved = at(2) + (at(3) - at(5) * (1 - share)) * tokens;
    moved += perRank * set.rank_bytes * (knobs.lora_rank - WORK_RANK);
    const fused = set.loss_bytes > 0 && architecture.fused_loss;
    const head = fused ? architecture.vocab * architecture.hidden : 0;
    const turns = fused ? Math.ceil(tokens / chunk) : 0;
    const work = {
      matmul: at(0) * tokens,
      attention: at(1) * pairs,
      moved,
      launches: at(4) - at(6) * (1 - modules) + at(7) * seq,
      layers: architecture.layers,
      loss_flops: head * (set.trained === "all" ? 6 : 4) * tokens,
      loss_moved: head * set.loss_bytes * turns + (fused ? LOGIT_BYTES * architecture.vocab * tokens : 0),
      loss_launches: set.loss_launches * turns,
      update_moved: trained * set.update_bytes,
    };
    [seconds, pace] = timeStep(work, set.factors[extra ? "traced" : "closed"] ?? [1, 1], gpu, knobs.processor_pace ?? 1);
  }
  const tokensPerSecond = seconds ? (knobs.micro_batch * knobs.seq_len) / seconds : null;
  return { allocated: peak, reserved, cap, breakdown, step_seconds: seconds, tokens_per_second: tokensPerSecond, basis, pace };
}

/** [seconds, pace] of a step. Twin: `time_step`. */
function timeStep(work, factors, gpu, pace) {
  let card = work.matmul / gpu.matmul_flops + work.attention / gpu.attention_flops + work.moved / gpu.bandwidth;
  card = card * factors[0] + work.launches * gpu.kernel_seconds;
  const host = (work.launches * gpu.launch_seconds + work.layers * gpu.layer_seconds) * factors[1] * pace;
  let a = card * card;
  let b = host * host;
  a *= a;
  b *= b;
  let seconds = Math.sqrt(Math.sqrt(Math.sqrt(a * a + b * b)));
  const loss = work.loss_flops / gpu.matmul_flops + work.loss_moved / gpu.bandwidth;
  const launched = work.loss_launches * gpu.launch_seconds * pace;
  const update = work.update_moved / gpu.bandwidth;
  seconds += Math.max(loss, launched) + update;
  return [seconds, host + launched > card + loss + update ? "processor" : "gpu"];
}

/** The interval of the speed: wider where the processor sets it, unless its pace is known. Twin: `speed_band`. */
export function speedBand(bands, pace, known = false) {
  return bands[pace !== "processor" ? "speed" : known ? "launch" : "processor"] ?? bands.speed;
}

/** 90 % interval of a quantity ("allocated", "cap", "reserved" or "speed"): [low, high]. `pace`: that of the answer. */
export function interval(table, hubId, knobs, quantity, value, pace = null) {
  const found = find(table, hubId, knobs);
  const bands = found.set.bands[found.basis];
  const [low, high] = quantity === "speed" ? speedBand(bands, pace, knobs.processor_pace != null) : bands[quantity];
  return [value * low, value * high];
}

/** Whether it fits: {needed, low, high, fits: "yes" | "tight" | "no"}; needed = allocator cap + CUDA context. */
export function fit(table, hubId, knobs, gpu, answer) {
  const [low, high] = interval(table, hubId, knobs, "cap", answer.cap);
  const needed = answer.cap + gpu.context_bytes;
  const upper = high + gpu.context_bytes;
  const fits = upper <= gpu.usable_bytes ? "yes" : needed > gpu.usable_bytes ? "no" : "tight";
  return { needed, low: low + gpu.context_bytes, high: upper, fits };
}

/** Largest multiple of `step` up to `limit` for which `fits(value)` holds (it must be monotone); 0 if none. */
export function largest(fits, step, limit) {
  let low = 0;
  let high = Math.floor(limit / step);
  while (low < high) {
    const middle = Math.floor((low + high + 1) / 2);
    if (fits(middle * step)) low = middle;
    else high = middle - 1;
  }
  return low * step;
}

// Twin of generator/estimate.py `evaluate`: the same operations in the same order, so both give the same doubles.
// Input is /api/v1/coefficients.json; the format is described at the top of generator/estimate.py. Bytes and seconds.

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
 * knobs: {recipe, method, gradient_checkpointing, micro_batch, seq_len, lora_rank, lora_targets}, lora_targets being
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
  if (set.trained === "adapters" && knobs.lora_targets !== "all-linear") {
    let total = 0;
    let inputs = 0;
    let kept = 0;
    for (const [name, [parameters, width]] of Object.entries(architecture.linears)) {
      total += width;
      if (knobs.lora_targets.includes(name)) {
        kept += parameters;
        inputs += width;
      }
    }
    rank = (rank * kept) / perRank;
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
  if (gpu && gpu.matmul_flops && gpu.attention_flops && gpu.bandwidth && gpu.launch_seconds) {
    const v = table.speed_units;
    const matmul = ((speed[0] * v[0] * tokens) / gpu.matmul_flops) * (1 + gpu.ramp_tokens / tokens);
    const attention = (speed[1] * v[1] * pairs) / gpu.attention_flops;
    const traffic = (speed[2] * v[2] + speed[3] * v[3] * tokens) / gpu.bandwidth;
    let busy = (matmul + attention + traffic) * set.speed_factor;
    busy *= busy;
    let launch = speed[4] * v[4] * gpu.launch_seconds;
    launch *= launch;
    seconds = Math.sqrt(Math.sqrt(busy * busy + launch * launch));
    pace = launch > busy ? "processor" : "gpu";
  }
  const tokensPerSecond = seconds ? (knobs.micro_batch * knobs.seq_len) / seconds : null;
  return { allocated: peak, reserved, cap, breakdown, step_seconds: seconds, tokens_per_second: tokensPerSecond, basis, pace };
}

/** The interval of the speed: what the processor sets the pace of is much less certain. Twin: `speed_band`. */
export function speedBand(bands, pace) {
  return pace === "processor" && bands.launch ? bands.launch : bands.speed;
}

/** 90 % interval of a quantity ("allocated", "cap", "reserved" or "speed"): [low, high]. `pace`: that of the answer. */
export function interval(table, hubId, knobs, quantity, value, pace = null) {
  const found = find(table, hubId, knobs);
  const bands = found.set.bands[found.basis];
  const [low, high] = quantity === "speed" ? speedBand(bands, pace) : bands[quantity];
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

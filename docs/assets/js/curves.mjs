// The curves of a model page: memory and speed over sequence length or micro-batch, one line per method with its 90 % band,
// measured cells on top. Values come from the published coefficients (estimate.mjs); frames and words from the figures' JSON.
import { draw, loadJson, plain } from "./charts.mjs";
import { evaluate, find, interval } from "./estimate.mjs";

const GIB = 1024 ** 3;
const BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
const LENGTHS = [512, 1024, 2048, 4096, 8192, 16384, 32768];
const RANK = 16;
const TARGETS = "all-linear";
const GUESS = [0.75, 1.3]; // a card that was never measured: its rates come from the data sheet
const groups = new WeakMap();

const figure3 = (value) => new Intl.NumberFormat("en-US", value >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: value >= 10 ? 3 : 2 }).format(value);
const short = (tokens) => (tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}k` : String(tokens));

/** Values of the horizontal axis: eight to an octave of lengths up to the model's context, or the usual micro-batches. */
export function steps(axis, context) {
  if (axis === "batch") return BATCHES;
  const limit = Math.min(context || 8192, 32768);
  const found = [];
  for (let i = 0; ; i += 1) {
    const length = Math.round(256 * 2 ** (i / 8));
    if (length > limit) return found;
    found.push(length);
  }
}

const knobsAt = (state, method, x) => ({
  recipe: state.recipe, method, gradient_checkpointing: state.checkpointing === "on", lora_rank: RANK, lora_targets: TARGETS,
  micro_batch: state.axis === "batch" ? x : state.batch, seq_len: state.axis === "batch" ? state.length : x,
});

/** One method's line with its band: {x, y, low, high} in GiB or tokens/s; empty where there are no coefficients. */
export function line(table, hub, method, state, quantity, xs, contextBytes) {
  const found = { x: [], y: [], low: [], high: [] };
  const gpu = quantity === "speed" ? table.gpus[state.gpu] : null;
  if (!find(table, hub, knobsAt(state, method, xs[0]))) return found;
  for (const x of xs) {
    const knobs = knobsAt(state, method, x);
    const answer = evaluate(table, hub, knobs, gpu);
    let [value, low, high] = [0, 0, 0];
    if (quantity === "speed") {
      if (!answer.tokens_per_second) continue;
      value = answer.tokens_per_second;
      [low, high] = interval(table, hub, knobs, "speed", value, answer.pace);
      if (!gpu.measured) [low, high] = [low * GUESS[0], high * GUESS[1]];
    } else {
      const name = state.memory === "needed" ? "cap" : "allocated";
      const context = name === "cap" ? contextBytes : 0;
      [low, high] = interval(table, hub, knobs, name, answer[name]).map((bytes) => (bytes + context) / GIB);
      value = (answer[name] + context) / GIB;
    }
    for (const [key, number] of Object.entries({ x, y: value, low, high })) found[key].push(number);
  }
  return found;
}

/** Measured cells that belong on the curves as they are set: [{method, x, y, cell}]. */
export function points(cells, hub, state, quantity) {
  const value = { speed: "tokens_per_second", needed: "needed_bytes", allocated: "peak_allocated_bytes" }[quantity === "speed" ? "speed" : state.memory];
  const batch = state.axis === "batch";
  return cells.filter((cell) => cell.hub_id === hub && cell.status === "ok" && cell[value] && cell.gpu_count === 1
    && cell.recipe === state.recipe && cell.gradient_checkpointing === (state.checkpointing === "on") && (cell.lora_rank ?? RANK) === RANK && (cell.lora_targets ?? TARGETS) === TARGETS
    && (batch ? cell.seq_len === state.length : cell.micro_batch === state.batch) && (quantity !== "speed" || cell.gpu === state.gpu))
    .map((cell) => ({ method: cell.method, x: batch ? cell.micro_batch : cell.seq_len, y: quantity === "speed" ? cell[value] : cell[value] / GIB, cell }));
}

/** The empty frame of one quantity filled for the state. */
function fill(group, frame, quantity) {
  const { state, table, cells, hub, xs } = group;
  const words = frame.words;
  const lines = new Map();
  const dots = points(cells, hub, state, quantity);
  const unit = quantity === "speed" ? "tokens/s" : "GiB";
  let [least, most] = [Infinity, 0];
  const data = frame.data.map((trace) => {
    const { method, role } = trace.meta;
    if (!lines.has(method)) lines.set(method, line(table, hub, method, state, quantity, xs, frame.context_bytes));
    const own = lines.get(method);
    if (role === "band") return { ...trace, x: [...own.x, ...own.x.toReversed()], y: [...own.high, ...own.low.toReversed()] };
    if (role === "line") {
      least = Math.min(least, ...own.y);
      most = Math.max(most, ...own.y);
      return { ...trace, x: own.x, y: own.y, customdata: own.y.map((y, i) => [`${figure3(y)} (${figure3(own.low[i])}–${figure3(own.high[i])}) ${unit}`]) };
    }
    const mine = dots.filter((dot) => dot.method === method);
    for (const dot of mine) [least, most] = [Math.min(least, dot.y), Math.max(most, dot.y)];
    return { ...trace, x: mine.map((dot) => dot.x), y: mine.map((dot) => dot.y),
      customdata: mine.map((dot) => [plain(`${trace.name} · ${words.measured} ${figure3(dot.y)} ${unit} · ${dot.cell.gpu_name}, ${dot.cell.date}`)]) };
  });
  const layout = structuredClone(frame.layout);
  const ticks = state.axis === "batch" ? [1, 2, 4, 8, 16, 32, 64] : [256, ...LENGTHS].filter((length) => length <= xs.at(-1));
  Object.assign(layout.xaxis, { tickvals: ticks, ticktext: ticks.map(short), range: [Math.log10(xs[0]), Math.log10(xs.at(-1))] });
  layout.xaxis.title.text = state.axis === "batch" ? `${words.batch} (${words.length} ${short(state.length)})` : `${words.length} (${words.batch} ${state.batch})`;
  const [bottom, top] = [least / 1.25, most * 1.25];
  const marks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6].filter((mark) => mark >= bottom && mark <= top);
  Object.assign(layout.yaxis, { range: [Math.log10(bottom), Math.log10(top)], tickvals: marks, ticktext: marks.map((mark) => mark.toLocaleString("en-US")) });
  layout.hovermode = "x unified";
  if (frame.cards && state.memory === "needed") {
    layout.shapes = frame.cards.filter(([, usable]) => usable >= bottom && usable <= top).map(([size, usable]) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: usable, y1: usable, layer: "below",
      line: { width: 1, dash: "dot", color: "var(--fa-line-strong)" },
      label: { text: `${size} GB`, textposition: "start", yanchor: "bottom", font: { size: 11, color: "var(--fa-muted)" } },
    }));
  }
  return { figure: { ...frame, data, layout }, dots: dots.length };
}

async function redraw(group) {
  const counts = {};
  for (const [quantity, { box, frame }] of Object.entries(group.boxes)) {
    const { figure, dots } = fill(group, frame, quantity);
    counts[quantity] = dots;
    await draw(box, figure);
  }
  const words = Object.values(group.boxes)[0].frame.words;
  const all = group.cells.filter((cell) => cell.hub_id === group.hub && cell.status === "ok").length;
  const say = (phrase, ...values) => phrase.replace(/\{(\d)\}/g, (_, i) => String(values[i]));
  group.note.textContent = all
    ? `${say(words.points, counts.memory ?? 0, counts.speed ?? 0)} ${say(words.elsewhere, all)}`
    : words.unmeasured;
}

/** A labelled select; `options` are [value, word]. */
function choice(group, name, label, options) {
  const wrap = document.createElement("label");
  const select = document.createElement("select");
  wrap.append(label, select);
  for (const [value, word] of options) select.add(new Option(word, value, false, String(value) === String(group.state[name])));
  select.name = name;
  select.addEventListener("change", () => {
    group.state[name] = typeof group.state[name] === "number" ? Number(select.value) : select.value;
    if (name === "axis") controls(group);
    group.xs = steps(group.state.axis, group.context);
    redraw(group);
  });
  return wrap;
}

function controls(group) {
  const { words } = group.boxes.memory?.frame ?? group.boxes.speed.frame;
  const across = group.state.axis === "batch"
    ? choice(group, "length", words.length, LENGTHS.filter((length) => length <= (group.context || 8192)).map((length) => [length, short(length)]))
    : choice(group, "batch", words.batch, [1, 2, 4, 8, 16].map((batch) => [batch, batch]));
  const fields = [
    choice(group, "axis", words.axis, [["length", words.length], ["batch", words.batch]]), across,
    choice(group, "recipe", words.recipe, [["stock", words.stock], ["lean", words.lean]]),
    choice(group, "checkpointing", words.checkpointing, [["on", words.on], ["off", words.off]]),
    choice(group, "memory", words.memory, [["needed", words.needed], ["allocated", words.allocated]]),
  ];
  if (group.gpus) fields.push(choice(group, "gpu", words.gpu, group.gpus));
  const focused = document.activeElement?.name;
  group.tools.replaceChildren(...fields);
  group.tools.hidden = false;
  if (focused) group.tools.querySelector(`[name="${focused}"]`)?.focus();
}

/** Take up one of the two figures of a `.curves` block and draw it; the block's controls serve both. */
export async function addCurve(box, frame, url) {
  const root = box.closest(".curves");
  const api = new URL("../../api/v1/", url);
  const [table, document_] = await Promise.all([loadJson(new URL("coefficients.json", api)), loadJson(new URL("cells.json", api))]);
  let group = groups.get(root);
  if (!group) {
    const { hub, context } = root.dataset;
    const own = document_.cells.filter((cell) => cell.hub_id === hub && cell.status === "ok");
    group = {
      hub, context: Number(context) || 0, table, cells: document_.cells, boxes: {}, tools: root.querySelector(".chart-tools"),
      note: root.querySelector("[data-note]"),
      state: { axis: "length", batch: 1, length: 2048, recipe: "stock", checkpointing: "on", memory: "needed", gpu: own[0]?.gpu ?? "rtx-4090" },
    };
    group.xs = steps("length", group.context);
    groups.set(root, group);
  }
  group.boxes[box.dataset.curve] = { box, frame };
  group.gpus ??= frame.gpus;
  controls(group);
  await redraw(group);
}

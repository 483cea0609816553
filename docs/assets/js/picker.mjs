// The picker: reads the form, prices every model, ranks, draws. Text from data only ever becomes text nodes.
import { isOld } from "./age.mjs";
import { answerFor, cardOf, GIB, hours, ladder } from "./answers.mjs";
import { config, FRAMEWORKS } from "./configs.mjs";
import { parts, score } from "./rank.mjs";
import { clean, DEFAULTS, format, parse } from "./state.mjs";
import { METHOD, say, WORDS } from "./words.mjs";

const root = document.querySelector("[data-picker]");
const lang = document.documentElement.lang.startsWith("en") ? "en" : "zh";
const W = WORDS[lang];
const form = root.querySelector("form");
const list = root.querySelector("[data-results]");
const answerLine = root.querySelector("[data-answer]");
const count = root.querySelector("[data-count]");
const notes = root.querySelector("[data-notes]");
const comparing = root.querySelector("[data-comparison]");
const moreButton = root.querySelector("[data-more]");
const API = new URL("../../api/v1/", import.meta.url);
const PAGE = 10;
const ICON = { yes: "✓", tight: "≈", no: "✕", null: "?" };
const BASIS = { measured: "●", interpolated: "◐", estimated: "○", closed: "○" };
const PARTS = ["weights", "adapters", "gradients", "optimizer", "activations", "logits", "other"];
let data, table, state, shown = PAGE, results = [], card, task;

/** An element with attributes and children; strings become text. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const FORMATS = [0, 1, 2].map((digits) => new Intl.NumberFormat("en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits }));
const number = (value, digits) => FORMATS[digits].format(value);
const gib = (bytes) => { const v = bytes / GIB; return number(v, v < 10 ? 2 : v < 100 ? 1 : 0); };
const shortCount = (n) => (n >= 1e6 ? `${number(n / 1e6, 1)}M` : n >= 1e3 ? `${number(n / 1e3, 0)}k` : String(n));
const billions = (n) => (n ? (n >= 1e9 ? `${Number((n / 1e9).toPrecision(3))}B` : `${Number((n / 1e6).toPrecision(3))}M`) : "–");
const duration = (h) => (h < 1 ? say(W.minutes, Math.max(1, Math.round(h * 60))) : say(W.hours, number(h, h < 10 ? 1 : 0)));
const verdict = (fits) => (fits === "yes" ? W.fits : fits === "tight" ? W.tight : fits === "no" ? W.no : W.none);
const modelUrl = (id) => `models/${id}/`;
const price = () => state.p || card.usd || 0;

function badge(fits) {
  const tip = fits === "yes" ? W.fitsTip : fits === "tight" ? W.tightTip : fits === "no" ? W.noTip : "";
  return el("span", { class: `fa-badge fa-${fits ?? "none"}`, title: tip }, el("span", { "aria-hidden": "true" }, ICON[fits], " "), verdict(fits));
}

function basisMark(answer) {
  const word = W[answer.basis];
  return el("span", { class: "fa-basis", title: say(W.basisTip, word) }, el("span", { "aria-hidden": "true" }, BASIS[answer.basis], " "), word);
}

/** Memory by part against the card: segments, the 90 % interval, the card's line. */
function bar(answer, figures) {
  const scale = Math.max(answer.high, figures.usable_bytes) * 1.04;
  const at = (bytes) => `${(100 * bytes) / scale}%`;
  const label = `${say(W.needs, gib(answer.needed), gib(answer.low), gib(answer.high))}, ${say(W.usable, gib(figures.usable_bytes))}`;
  const node = el("div", { class: "fa-bar", role: "img", "aria-label": label });
  let left = 0;
  const pieces = PARTS.map((name) => [name, Math.max(0, answer.breakdown[name])]);
  pieces.push(["context", Math.max(0, answer.needed - answer.allocated)]);
  for (const [name, size] of pieces) {
    if (!size) continue;
    const piece = el("span", { class: `fa-part fa-part-${name}`, title: `${W[name]} ${gib(size)} GiB` });
    piece.style.left = at(left);
    piece.style.width = at(size);
    left += size;
    node.append(piece);
  }
  const interval = el("span", { class: "fa-interval" });
  interval.style.left = at(answer.low);
  interval.style.width = at(answer.high - answer.low);
  const limit = el("span", { class: "fa-limit", title: say(W.usable, gib(figures.usable_bytes)) });
  limit.style.left = at(figures.usable_bytes);
  node.append(interval, limit);
  return node;
}

function figuresLine(result) {
  const { answer } = result;
  const time = hours(answer, state.n || task.samples, state.e);
  const out = [el("strong", {}, say(W.needs, gib(answer.needed), gib(answer.low), gib(answer.high)))];
  out.push(el("span", {}, answer.tokens_per_second ? say(W.speed, number(answer.tokens_per_second, 0)) : W.noSpeed));
  if (time !== null) out.push(el("span", {}, duration(time)));
  if (time !== null && price()) out.push(el("span", {}, say(W.cost, number(time * price(), 2), number(price(), 2))));
  if (answer.sharded) out.push(el("span", {}, say(W.sharded, card.count)));
  out.push(basisMark(answer));
  return el("p", { class: "fa-figures" }, ...out);
}

/** The day on which the Hub's figures of a model were read, and whether that is over 30 days ago. */
function readOn({ read, old }) {
  return say(read && (old || isOld(read)) ? W.readOld : W.read, read ?? W.noDay);
}

function whyLine({ model, index }) {
  const standing = model.standing[index];
  const out = [standing === null ? W.noEvidence : say(W.better, model.tables[index], Math.round(100 * standing))];
  out.push(W.commercial[model.commercial]);
  if (model.gated) out.push(W.gated);
  if (model.released) out.push(say(W.released, model.released.slice(0, 7)));
  if (model.downloads) out.push(say(W.downloads, shortCount(model.downloads)) + readOn(model));
  return el("p", { class: "fa-why" }, ...out.flatMap((text, i) => (i ? [" · ", el("span", {}, text)] : [el("span", {}, text)])));
}

function settingsTable(knobs) {
  const rows = [
    [W.method, METHOD[knobs.method]], [W.recipe, knobs.recipe === "lean" ? W.leanName : W.stock], [W.seq, number(knobs.seq_len, 0)],
    [W.micro, knobs.micro_batch], [W.gc, knobs.gradient_checkpointing ? W.on : W.off], [W.rankWord, knobs.method.startsWith("full") ? "–" : knobs.lora_rank],
  ];
  return el("table", {}, el("tbody", {}, ...rows.map(([k, v]) => el("tr", {}, el("th", { scope: "row" }, k), el("td", { class: "num" }, String(v))))));
}

function partsTable(answer) {
  const rows = PARTS.map((name) => [W[name], answer.breakdown[name], name]).concat([[W.context, answer.needed - answer.allocated, "context"]]).filter(([, size]) => size > 0);
  return el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, W.part), el("th", { scope: "col", class: "num" }, W.size), el("th", { scope: "col", class: "num" }, W.share))),
    el("tbody", {}, ...rows.map(([word, size, name]) => el("tr", {},
      el("th", { scope: "row" }, el("span", { class: `fa-key fa-part-${name}`, "aria-hidden": "true" }), word),
      el("td", { class: "num" }, gib(size)), el("td", { class: "num" }, `${Math.round((100 * size) / answer.needed)}%`)))));
}

function ladderList(result) {
  const steps = ladder(table, result.model, result.answer, card);
  if (!steps.length) return el("p", {}, W.ladderEmpty);
  return el("ol", { class: "fa-ladder" }, ...steps.map((step) => el("li", {},
    el("span", {}, say(W[step.name], step.knobs.seq_len)), " ",
    el("strong", {}, step.saves >= 0 ? say(W.saves, gib(step.saves)) : say(W.costs, gib(-step.saves))), " ",
    badge(step.fits), " ", el("span", { class: "fa-muted" }, say(W.upto, gib(step.needed), verdict(step.together))))));
}

function configBlock(result) {
  const { model, answer } = result;
  const code = el("code", {});
  const note = el("p", { class: "fa-muted" });
  const copy = el("button", { type: "button", class: "fa-button", onclick: async () => {
    await navigator.clipboard.writeText(code.textContent);
    copy.textContent = W.copied;
    setTimeout(() => { copy.textContent = W.copy; }, 1500);
  } }, W.copy);
  const pick = el("select", { "aria-label": W.config }, ...FRAMEWORKS.map((f) => el("option", { value: f.id }, f.name)));
  const draw = () => {
    const framework = FRAMEWORKS.find((f) => f.id === pick.value);
    const text = config(framework.id, { hub: model.hub, template: model.template, remote: model.remote, epochs: state.e, bf16: card.entry?.bf16 !== "none", knobs: answer.knobs });
    code.textContent = text ?? "";
    code.parentElement.hidden = copy.hidden = text === null;
    note.textContent = text === null ? say(W.noConfig, framework.name) : say(framework.checked ? W.checked : W.unchecked, framework.name, framework.version);
  };
  const block = el("div", { class: "fa-config" }, el("div", { class: "fa-config-bar" }, pick, copy), el("pre", { tabindex: "0" }, code), note);
  pick.addEventListener("change", draw);
  draw();
  return block;
}

function scoreTable(result) {
  const weights = data.ranking.weights;
  return el("table", {}, el("tbody", {}, ...Object.entries(weights).map(([name, weight]) => el("tr", {},
    el("th", { scope: "row" }, W.parts[name]), el("td", { class: "num" }, number(result.part[name], 2)), el("td", { class: "num" }, `× ${weight}`)))));
}

function detail(result) {
  const { model, answer } = result;
  const body = el("div", { class: "fa-detail" });
  const column = (title, ...content) => el("section", {}, el("h4", {}, title), ...content);
  if (answer) body.append(column(W.settings, settingsTable(answer.knobs), partsTable(answer)), column(W.ladder, ladderList(result)), column(W.config, configBlock(result)));
  body.append(column(W.why, scoreTable(result)));
  body.append(el("p", { class: "fa-links" }, el("a", { href: modelUrl(model.id) }, W.page), " · ",
    el("button", { type: "button", class: "fa-link", onclick: () => change({ w: model.id }, true) }, W.needFor)));
  return body;
}

function row(result, place) {
  const { model, answer } = result;
  const compared = state.x.split(",").includes(model.id);
  const toggle = el("input", { type: "checkbox", ...(compared && { checked: true }), "aria-label": `${W.compare} ${model.name}`, onchange: (event) => {
    const ids = state.x.split(",").filter(Boolean).filter((id) => id !== model.id);
    change({ x: (event.target.checked ? [...ids, model.id].slice(-4) : ids).join(",") }, true);
  } });
  const more = el("details", {}, el("summary", {}, W.details));
  more.addEventListener("toggle", () => {
    if (more.open && more.children.length === 1) more.append(detail(result));
    if (more.open !== (state.d === model.id)) { state.d = more.open ? model.id : ""; history.replaceState(null, "", location.pathname + format(state)); }
  });
  if (state.d === model.id) more.open = true;
  const method = answer ? `${METHOD[answer.knobs.method]} · ${answer.knobs.recipe === "lean" ? W.leanName : W.stock}` : "";
  const over = answer && model.context && answer.knobs.seq_len > model.context;
  return el("li", { class: "fa-result", "data-id": model.id, "data-fits": answer?.fits ?? "none" },
    el("div", { class: "fa-head" },
      el("span", { class: "fa-place", "aria-hidden": "true" }, String(place)),
      el("h3", {}, el("a", { href: modelUrl(model.id) }, model.name)), el("span", { class: "fa-muted" }, billions(model.parameters)),
      method && el("span", { class: "fa-chip" }, method), badge(answer?.fits ?? null), el("label", { class: "fa-compare" }, toggle, W.compare)),
    answer && bar(answer, card.figures), answer && figuresLine(result), whyLine(result),
    over && el("p", { class: "fa-muted" }, say(W.beyond, number(model.context, 0))), more);
}

const ORDER = {
  rank: (a, b) => b.score - a.score,
  memory: (a, b) => (a.answer?.needed ?? Infinity) - (b.answer?.needed ?? Infinity),
  speed: (a, b) => (b.answer?.tokens_per_second ?? -1) - (a.answer?.tokens_per_second ?? -1),
  size: (a, b) => (b.model.parameters ?? 0) - (a.model.parameters ?? 0),
  released: (a, b) => String(b.model.released ?? "").localeCompare(String(a.model.released ?? "")),
  downloads: (a, b) => (b.model.downloads ?? 0) - (a.model.downloads ?? 0),
};

/** All models priced, filtered and ordered. */
function compute() {
  const index = Math.max(0, data.tasks.findIndex((entry) => entry.id === state.t));
  task = data.tasks[index];
  card = cardOf(state.g, data, table);
  const language = state.l || task.language;
  const wanted = state.q.trim().toLowerCase();
  const all = [];
  for (const model of data.models) {
    if (model.status === "historical" && !wanted) continue;
    if (state.c && model.commercial < 2) continue;
    if (wanted && !model.name.toLowerCase().includes(wanted) && !model.hub.toLowerCase().includes(wanted)) continue;
    const answer = answerFor(table, model, state, task, card);
    const part = parts(model, task, index, language, answer?.fits ?? null, data.ranking, data.data_date);
    all.push({ model, index, answer, part, score: score(part, model, data.ranking) });
  }
  return all.sort((a, b) => ORDER[state.o](a, b) || b.score - a.score || (a.model.id < b.model.id ? -1 : 1));
}

function drawList() {
  const visible = state.f ? results : results.filter((r) => !r.answer || r.answer.fits !== "no");
  const any = results.some((r) => r.answer && r.answer.fits !== "no");
  const nearest = any ? [] : results.filter((r) => r.answer).sort((a, b) => a.answer.needed - b.answer.needed);
  const rows = visible.some((r) => r.answer) || !nearest.length ? visible : nearest;
  list.replaceChildren(...rows.slice(0, shown).map((result, i) => row(result, i + 1)));
  moreButton.hidden = rows.length <= shown;
  moreButton.textContent = say(W.more, Math.min(PAGE, rows.length - shown));
  const tally = { yes: 0, tight: 0, no: 0 };
  for (const { answer } of results) if (answer) tally[answer.fits] += 1;
  count.textContent = say(W.results, tally.yes, tally.tight, tally.no);
  const name = card.substitute?.name ?? card.name;
  const best = rows.find((r) => r.answer);
  if (best && any) answerLine.textContent = say(W.answer, name, task.name[lang === "zh" ? 0 : 1], best.model.name, METHOD[best.answer.knobs.method], gib(best.answer.needed));
  else if (best) answerLine.textContent = say(W.nothing, name, best.model.name);
  else answerLine.textContent = W.noTable;
  const said = [];
  if (card.substitute) said.push(say(W.noGpu, `${card.name} (${card.gb} GB)`));
  if (card.entry && card.entry.vendor !== "NVIDIA") said.push(say(W.notCuda, card.name));
  if (card.entry?.bf16 === "none") said.push(W.noBf16);
  notes.replaceChildren(...said.map((text) => el("p", {}, text)));
}

function drawComparison() {
  const ids = state.x.split(",").filter(Boolean);
  const chosen = ids.map((id) => results.find((r) => r.model.id === id)).filter((r) => r?.answer);
  const inverse = data.models.find((model) => model.id === state.w);
  comparing.replaceChildren();
  if (inverse) comparing.append(inverseTable(inverse));
  if (chosen.length < 2) return;
  const line = (word, cell) => el("tr", {}, el("th", { scope: "row" }, word), ...chosen.map((r) => el("td", {}, cell(r))));
  comparing.append(el("section", { class: "fa-panel" }, el("h2", {}, W.comparing), el("div", { class: "fa-scroll", tabindex: "0" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, W.model), ...chosen.map((r) => el("th", { scope: "col" }, el("a", { href: modelUrl(r.model.id) }, r.model.name))))),
    el("tbody", {}, line(W.fit, (r) => badge(r.answer.fits)), line(W.method, (r) => METHOD[r.answer.knobs.method]),
      line(W.need, (r) => say(W.needs, gib(r.answer.needed), gib(r.answer.low), gib(r.answer.high))),
      line("token/s", (r) => (r.answer.tokens_per_second ? number(r.answer.tokens_per_second, 0) : "–")),
      line(W.time, (r) => { const h = hours(r.answer, state.n || task.samples, state.e); return h === null ? "–" : duration(h); }),
      line(W.parts.quality, (r) => (r.model.standing[r.index] === null ? W.noEvidence : `${Math.round(100 * r.model.standing[r.index])}%`)),
      line(W.parts.licence, (r) => W.commercial[r.model.commercial]), line(W.parts.size, (r) => billions(r.model.parameters)))))));
}

/** Every card of the catalog for one model: the smallest that fits first. */
function inverseTable(model) {
  const rows = [];
  for (const entry of data.gpus) {
    if (!entry.gb || !entry.count) continue;
    const other = cardOf(entry.id, data, table);
    const answer = answerFor(table, model, state, task, other);
    if (answer) rows.push({ entry, answer, time: hours(answer, state.n || task.samples, state.e) });
  }
  const fitting = rows.filter((r) => r.answer.fits !== "no").sort((a, b) => a.entry.gb * a.entry.count - b.entry.gb * b.entry.count || (a.time ?? 1e9) - (b.time ?? 1e9));
  const body = fitting.map(({ entry, answer, time }) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: `gpus/${entry.id}/` }, entry.name)), el("td", {}, badge(answer.fits)),
    el("td", {}, METHOD[answer.knobs.method]), el("td", { class: "num" }, `${gib(answer.needed)} (${gib(answer.low)}–${gib(answer.high)})`),
    el("td", { class: "num" }, time === null ? "–" : duration(time)), el("td", { class: "num" }, time === null || !entry.usd ? "–" : `$${number(time * entry.usd, 2)}`)));
  return el("section", { class: "fa-panel", "data-inverse": model.id },
    el("h2", {}, say(W.inverse, model.name, fitting.length)), el("button", { type: "button", class: "fa-button", onclick: () => change({ w: "" }, true) }, W.close),
    el("div", { class: "fa-scroll", tabindex: "0" }, el("table", {}, el("thead", {}, el("tr", {}, ...[W.card, W.fit, W.method, `${W.need} (GiB)`, W.time, W.price].map((word) => el("th", { scope: "col" }, word)))), el("tbody", {}, ...body))));
}

function update() {
  const begin = performance.now();
  results = compute();
  root.dataset.computeMs = (performance.now() - begin).toFixed(2);
  drawList();
  drawComparison();
  root.dataset.updateMs = (performance.now() - begin).toFixed(2);
  root.dataset.ready = "";
  for (const link of document.querySelectorAll(".md-select__link, link[rel=alternate]")) if (link.matches("a")) link.search = format(state);
}

function fill() {
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") field.checked = Boolean(state[field.name]);
    else if (field.name === "g") field.value = /^\d+gb$/.test(state.g) ? state.g.replace("gb", " GB") : (data.gpus.find((gpu) => gpu.id === state.g)?.name ?? "");
    else if (["s", "n", "p"].includes(field.name)) field.value = state[field.name] || "";
    else field.value = state[field.name];
  }
  form.elements.s.placeholder = String(task?.seq_len ?? "");
  form.elements.n.placeholder = String(task?.samples ?? "");
}

function change(values, entry = false) {
  for (const [key, value] of Object.entries(values)) state[key] = clean(key, value);
  history[entry ? "pushState" : "replaceState"](null, "", location.pathname + format(state));
  update();
  fill();
}

/** The card that a reader typed: a catalog name, or a size such as "24" or "24 GB". */
function typedCard(text) {
  const name = text.trim().toLowerCase();
  const exact = data.gpus.find((gpu) => gpu.name.toLowerCase() === name || gpu.id === name);
  if (exact) return exact.id;
  const size = /^(\d{1,4})\s*(gb|g)?$/.exec(name);
  if (size && Number(size[1]) > 0) return `${Number(size[1])}gb`;
  return (name.length > 2 && data.gpus.find((gpu) => gpu.name.toLowerCase().includes(name))?.id) || null;
}

function listen() {
  form.addEventListener("submit", (event) => event.preventDefault());
  root.addEventListener("change", ({ target }) => {
    if (!target.name || target.form !== form) return;
    shown = PAGE;
    if (target.name === "g") { const id = typedCard(target.value); if (id) change({ g: id }, true); else fill(); }
    else if (target.name === "t") change({ t: target.value, s: 0, n: 0, l: "" }, true);
    else change({ [target.name]: target.type === "checkbox" ? Number(target.checked) : target.value }, true);
  });
  form.elements.q.addEventListener("input", ({ target }) => { state.q = clean("q", target.value); shown = PAGE; history.replaceState(null, "", location.pathname + format(state)); update(); });
  const gpu = form.elements.g;
  gpu.addEventListener("focus", () => gpu.select());
  gpu.addEventListener("input", () => { if (data.gpus.some((entry) => entry.name === gpu.value)) change({ g: typedCard(gpu.value) }, true); });
  moreButton.addEventListener("click", () => { const at = shown; shown += PAGE; drawList(); list.children[at]?.querySelector("a")?.focus(); });
  root.querySelector("[data-share]").addEventListener("click", async (event) => {
    const button = event.currentTarget, word = button.textContent;
    await navigator.clipboard.writeText(location.href);
    button.textContent = W.share_;
    setTimeout(() => { button.textContent = word; }, 1500);
  });
  root.querySelector("[data-reset]").addEventListener("click", () => { state = { ...DEFAULTS }; shown = PAGE; change({}, true); });
  addEventListener("popstate", () => { state = parse(location.search); shown = PAGE; update(); fill(); });
}

try {
  const read = async (name) => { const answer = await fetch(new URL(name, API)); if (!answer.ok) throw new Error(name); return answer.json(); };
  const nothing = { sets: [], architectures: [], models: {}, gpus: {} };
  [data, table] = await Promise.all([read("picker.json"), read("coefficients.json").catch(() => nothing)]);
  state = parse(location.search);
  listen();
  update();
  fill();
} catch (error) {
  answerLine.textContent = W.loadError;
  throw error;
}

// The picker: reads the form and the address, prices and ranks every model, draws the list.
import { answerFor, cardOf, SEVERAL } from "./answers.mjs";
import { el, gib } from "./elements.mjs";
import { row } from "./picker_rows.mjs";
import { parts, score } from "./rank.mjs";
import { readRuns } from "./runs.mjs";
import { clean, DEFAULTS, format, parse } from "./state.mjs";
import { say, WORDS } from "./words.mjs";

const root = document.querySelector("[data-picker]");
const lang = document.documentElement.lang.startsWith("en") ? "en" : "zh";
const W = WORDS[lang];
const form = root.querySelector("form");
const [list, answerLine, count, notes, panels, moreButton] = ["results", "answer", "count", "notes", "panels", "more"]
  .map((name) => root.querySelector(`[data-${name}]`));
const API = new URL("../../api/v1/", import.meta.url);
const PAGE = 10, FOLD = 4; // rows per page of the list, and rows that a screen shows
// What the parts of the picker share: data and coefficients never change, measured runs come card by card (loadRuns), card
// and task follow the state.
const view = { lang, W, data: null, table: null, state: { ...DEFAULTS }, card: null, task: null, change };
const loaded = new Set(), waiting = new Set(); // cards whose measured runs are here, or on their way
let results = [], shown = PAGE, rest;

const ORDER = {
  rank: (a, b) => b.score - a.score,
  memory: (a, b) => (a.answer?.needed ?? Infinity) - (b.answer?.needed ?? Infinity),
  speed: (a, b) => (b.answer?.tokens_per_second ?? -1) - (a.answer?.tokens_per_second ?? -1),
  size: (a, b) => (b.model.parameters ?? 0) - (a.model.parameters ?? 0),
  released: (a, b) => String(b.model.released ?? "").localeCompare(String(a.model.released ?? "")),
  downloads: (a, b) => (b.model.downloads ?? 0) - (a.model.downloads ?? 0),
};

/** All models that meet the conditions, priced and ordered. */
function compute() {
  const { data, table, state } = view;
  const index = Math.max(0, data.tasks.findIndex((entry) => entry.id === state.t));
  view.task = data.tasks[index];
  view.card = cardOf(state.g, data, table);
  const language = state.l || view.task.language;
  const wanted = state.i.trim().toLowerCase();
  const all = [];
  for (const model of data.models) {
    if (model.status === "historical" && !wanted) continue;
    if (state.c && model.commercial < 2) continue;
    if (wanted && !model.name.toLowerCase().includes(wanted) && !model.hub.toLowerCase().includes(wanted)) continue;
    const answer = answerFor(table, model, state, view.task, view.card);
    const part = parts(model, view.task, index, language, answer?.fits ?? null, data.ranking, data.data_date);
    all.push({ model, index, answer, part, score: score(part, model, data.ranking) });
  }
  return all.sort((a, b) => ORDER[state.o](a, b) || b.score - a.score || (a.model.id < b.model.id ? -1 : 1));
}

/** The rows to show, and whether anything fits: where nothing does, what comes nearest stands in. */
function choose() {
  const fitting = results.filter((r) => !r.answer || r.answer.fits !== "no");
  const any = fitting.some((r) => r.answer);
  if (view.state.f || any) return [view.state.f ? results : fitting, any];
  const nearest = results.filter((r) => r.answer).sort((a, b) => a.answer.needed - b.answer.needed);
  return [nearest.length ? nearest : fitting, false];
}

/** The rows: what a screen shows within the frame of the input, the rest right after it. */
function drawList() {
  const [rows, any] = choose();
  const wanted = rows.slice(0, shown);
  const draw = (from, to) => {
    const stale = [...list.children].slice(from);
    for (const [i, result] of wanted.slice(from, to).entries()) {
      const node = row(view, result, from + i + 1);
      if (stale[i]) stale[i].replaceWith(node);
      else list.append(node);
    }
  };
  clearTimeout(rest);
  for (const node of [...list.children].slice(wanted.length)) node.remove();
  draw(0, FOLD);
  rest = setTimeout(() => draw(FOLD));
  moreButton.hidden = rows.length <= shown;
  moreButton.textContent = say(W.more, Math.min(PAGE, rows.length - shown));
  drawAnswer(rows, any);
}

function drawAnswer(rows, any) {
  const { card, task } = view;
  const tally = { yes: 0, tight: 0, no: 0 };
  for (const { answer } of results) if (answer) tally[answer.fits] += 1;
  count.textContent = say(W.results, tally.yes, tally.tight, tally.no);
  const name = card.substitute?.name ?? card.name;
  const best = rows.find((r) => r.answer && (!any || r.answer.fits !== "no"));
  if (!results.length) answerLine.textContent = W.noModel;
  else if (!best) answerLine.textContent = W.noTable;
  else if (any) answerLine.textContent = say(W.answer, name, task.name[lang === "zh" ? 0 : 1], best.model.name, W.methods[best.answer.knobs.method], gib(best.answer.needed));
  else answerLine.textContent = say(W.nothing, name, best.model.name);
  const said = [];
  if (card.substitute) said.push(say(W.noGpu, `${card.name} (${card.gb} GB)`));
  if (card.entry && card.entry.vendor !== "NVIDIA") said.push(say(W.notCuda, card.name));
  if (card.entry?.bf16 === "none") said.push(W.noBf16);
  notes.replaceChildren(...said.map((text) => el("p", {}, text)));
}

/** Side by side and "what do I need for it?", whose answer then stands on top. */
async function drawPanels() {
  const { state } = view;
  if (!state.w && !state.x.includes(",")) return panels.replaceChildren();
  const { comparison, inverse } = await import("./picker_panels.mjs");
  const needed = state.w && inverse(view);
  if (needed) answerLine.textContent = needed.answer;
  return panels.replaceChildren(...[needed?.node, comparison(view, results)].filter(Boolean));
}

function update() {
  const begin = performance.now();
  results = compute();
  root.dataset.computeMs = (performance.now() - begin).toFixed(2);
  drawList();
  drawPanels();
  root.dataset.updateMs = (performance.now() - begin).toFixed(2);
  root.dataset.ready = "";
  for (const link of document.querySelectorAll("a.md-select__link")) link.search = format(view.state);
}

/** The form as the state has it; only what differs is touched, for each touch costs the browser a style pass. */
function fill() {
  const { card, state, task } = view;
  const put = (field, name, value) => {
    if (field[name] !== value) field[name] = value;
  };
  for (const field of form.elements) {
    if (!field.name) continue;
    const value = state[field.name];
    if (field.type === "checkbox") put(field, "checked", Boolean(value));
    else if (field.name === "g") put(field, "value", card.substitute?.name ?? card.name);
    else if (["s", "n", "p"].includes(field.name)) put(field, "value", String(value || ""));
    else put(field, "value", String(value));
  }
  put(form.elements.s, "placeholder", String(task?.seq_len ?? ""));
  put(form.elements.n, "placeholder", String(task?.samples ?? ""));
}

/** New values of the state; `entry` makes them a step of the history. */
function change(values, entry = false) {
  for (const [key, value] of Object.entries(values)) view.state[key] = clean(key, value);
  update();
  fill();
  loadRuns();
  const address = location.pathname + format(view.state);
  setTimeout(() => history[entry ? "pushState" : "replaceState"](null, "", address)); // after the frame: it takes milliseconds
}

/** The card that a reader typed: a catalog name, a size such as "24" or "24 GB", or several, as in "2 × RTX 3090". */
function typedCard(text) {
  const { gpus } = view.data;
  const name = text.trim().toLowerCase();
  const exact = gpus.find((gpu) => gpu.name.toLowerCase() === name || gpu.id === name);
  if (exact) return exact.id;
  const several = /^([2-9]|1[0-6])\s*[x×*]\s*(.+)$/.exec(name);
  if (several) {
    const one = typedCard(several[2]);
    return one && !SEVERAL.test(one) ? `${several[1]}x-${one}` : null;
  }
  const size = /^(\d{1,4})\s*(gb|g)?$/.exec(name);
  if (size && Number(size[1]) > 0 && (size[2] || Number(size[1]) < 1000)) return `${Number(size[1])}gb`;
  const named = name.length > 2 ? gpus.filter((gpu) => gpu.name.toLowerCase().includes(name)) : [];
  return named.sort((a, b) => a.count - b.count || a.name.length - b.name.length)[0]?.id ?? null;
}

function takeCard(field) {
  const id = typedCard(field.value);
  field.setCustomValidity(id ? "" : W.noCard);
  if (id) change({ g: id }, true);
  else field.reportValidity();
}

function listen() {
  const { g: gpu, i: name } = form.elements;
  form.addEventListener("submit", (event) => event.preventDefault());
  root.addEventListener("change", ({ target }) => {
    if (!target.name || target.form !== form) return;
    shown = PAGE;
    if (target === gpu) takeCard(gpu);
    else if (target.name === "t") change({ t: target.value, s: 0, n: 0, l: "" }, true);
    else change({ [target.name]: target.type === "checkbox" ? Number(target.checked) : target.value }, true);
  });
  name.addEventListener("input", () => {
    view.state.i = clean("i", name.value);
    shown = PAGE;
    history.replaceState(null, "", location.pathname + format(view.state));
    update();
  });
  gpu.addEventListener("focus", () => gpu.select());
  gpu.addEventListener("input", () => {
    gpu.setCustomValidity("");
    if (view.data.gpus.some((entry) => entry.name === gpu.value)) takeCard(gpu);
  });
  moreButton.addEventListener("click", () => {
    const at = shown;
    shown += PAGE;
    drawList();
    setTimeout(() => list.children[at]?.querySelector("a")?.focus());
  });
  root.querySelector("[data-share]").addEventListener("click", async ({ currentTarget: button }) => {
    const word = button.textContent;
    await navigator.clipboard.writeText(location.href);
    button.textContent = W.share_;
    setTimeout(() => { button.textContent = word; }, 1500);
  });
  root.querySelector("[data-reset]").addEventListener("click", () => {
    view.state = { ...DEFAULTS };
    shown = PAGE;
    change({}, true);
  });
  addEventListener("popstate", () => {
    view.state = parse(location.search);
    shown = PAGE;
    update();
    fill();
    loadRuns();
  });
}

/** Cards whose runs the answers on the screen rest on: the chosen one, or with "what do I need" every one that has runs. */
function cardsInUse() {
  const { card, data, state } = view;
  return state.w ? data.measured : data.measured.filter((id) => card.count === 1 && id === card.single);
}

/** Fetches the runs of the cards in use, each card's once. Estimates stand until they are here, and if they never come. */
function loadRuns() {
  const { table } = view;
  const mark = () => list.setAttribute("aria-busy", String(cardsInUse().some((id) => waiting.has(id))));
  for (const id of cardsInUse().filter((card) => !loaded.has(card) && !waiting.has(card))) {
    waiting.add(id);
    read(`measured/${id}.json`).then((document) => {
      table.runs = new Map([...table.runs, ...readRuns(document)]);
      loaded.add(id);
      if (cardsInUse().includes(id)) update();
    }, () => {}).finally(() => { // after a failure the reader's next choice asks again
      waiting.delete(id);
      mark();
    });
  }
  mark();
}

async function read(name) {
  const answer = await fetch(new URL(name, API));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

try {
  const [data, table] = await Promise.all(["picker.json", "coefficients.json"].map(read));
  view.data = data;
  view.table = { ...table, runs: new Map() };
  view.state = parse(location.search);
  listen();
  update();
  fill();
  loadRuns();
  import("./tips.mjs");
} catch (error) {
  answerLine.textContent = W.loadError;
  throw error;
}

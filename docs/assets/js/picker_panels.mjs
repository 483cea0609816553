// The panels above the list: models side by side, and "what do I need for this model?".
import { answerFor, cardOf, hours } from "./answers.mjs";
import { billions, el, gib, number, tableOf } from "./elements.mjs";
import { badge, duration, evidence, licence, modelUrl, priceOf, recipeName, samplesOf } from "./picker_rows.mjs";
import { say } from "./words.mjs";

const SMALL_FIRST = ["qlora", "lora", "full_bf16_adam8bit", "full"];

const panel = (title, attributes, close, ...content) => el("section", { class: "fa-panel", ...attributes },
  el("div", { class: "fa-panel-head" }, el("h2", {}, title), close), ...content);
const scroll = (label, table) => el("div", { class: "fa-scroll", tabindex: "0", role: "region", "aria-label": label }, table);
const closing = (view, key) => el("button", { type: "button", class: "fa-button", onclick: () => view.change({ [key]: "" }, true) }, view.W.close);
const range = (answer) => `${gib(answer.needed)} (${gib(answer.low)}–${gib(answer.high)})`;

/** Up to four priced models beside each other; null below two. */
export function comparison(view, results) {
  const { W, state } = view;
  const chosen = state.x.split(",").map((id) => results.find((r) => r.model.id === id)).filter((r) => r?.answer);
  if (chosen.length < 2) return null;
  const times = new Map(chosen.map((r) => [r, hours(r.answer, samplesOf(view), state.e)]));
  const line = (word, cell) => [word, ...chosen.map(cell)];
  const rows = [
    line(W.fit, (r) => badge(W, r.answer.fits)), line(W.method, (r) => `${W.methods[r.answer.knobs.method]} · ${recipeName(W, r.answer.knobs.recipe)}`),
    line(`${W.need} (GiB)`, (r) => range(r.answer)), line(W.micro, (r) => String(r.answer.knobs.micro_batch)),
    line("token/s", (r) => (r.answer.tokens_per_second ? number(r.answer.tokens_per_second, 0) : "–")),
    line(W.time, (r) => (times.get(r) === null ? "–" : duration(W, times.get(r)))),
    priceOf(view) && line(W.price, (r) => (times.get(r) === null ? "–" : `${state.p ? "" : "$"}${number(times.get(r) * priceOf(view), 2)}`)),
    line(W.basisWord, (r) => el("span", { class: "basis", "data-basis": r.answer.basis }, W[r.answer.basis])),
    line(W.parts.quality, (r) => evidence(W, r)), line(W.parts.licence, (r) => licence(W, r.model)),
    line(W.parts.size, (r) => billions(r.model.parameters)), line(W.parts.recency, (r) => r.model.released?.slice(0, 7) ?? "–"),
  ].filter(Boolean);
  const head = [W.model, ...chosen.map((r) => el("a", { href: modelUrl(r.model.id) }, r.model.name))];
  return panel(W.comparing, { "data-compared": "" }, closing(view, "x"), scroll(W.comparing, tableOf(head, rows)));
}

/** Per method the smallest single NVIDIA card (all methods run there) that surely holds one model: [{method, entry, answer}]. */
function smallest({ data, table, state, task }, model) {
  const cards = data.gpus.filter((entry) => entry.gb && entry.count === 1 && entry.vendor === "NVIDIA").sort((a, b) => a.gb - b.gb || (a.id < b.id ? -1 : 1));
  const found = [];
  for (const method of state.m === "auto" ? SMALL_FIRST : [state.m]) {
    for (const entry of cards) {
      const answer = answerFor(table, model, { ...state, m: method }, task, cardOf(entry.id, data, table));
      if (answer?.fits !== "yes") continue;
      found.push({ method, entry, answer });
      break;
    }
  }
  return found;
}

/** What one model needs: {model, answer, node}; every card of the catalog that holds it, the smallest first. */
export function inverse(view) {
  const { W, data, table, state, task } = view;
  const model = data.models.find((entry) => entry.id === state.w);
  if (!model) return null;
  const rows = [];
  for (const entry of data.gpus) {
    if (!entry.gb || !entry.count) continue;
    const answer = answerFor(table, model, state, task, cardOf(entry.id, data, table));
    if (answer && answer.fits !== "no") rows.push({ entry, answer, time: hours(answer, samplesOf(view), state.e) });
  }
  rows.sort((a, b) => a.entry.gb * a.entry.count - b.entry.gb * b.entry.count || (a.time ?? 1e9) - (b.time ?? 1e9));
  const least = smallest(view, model);
  const starts = least.map(({ method, entry }) => say(W.from, W.methods[method], entry.gb)).join(W.comma);
  const title = say(W.inverse, model.name, rows.length);
  const start = tableOf([W.method, W.smallest, `${W.need} (GiB)`], least.map(({ method, entry, answer }) => (
    [`${W.methods[method]} · ${recipeName(W, answer.knobs.recipe)}`, el("a", { href: `gpus/${entry.id}/` }, entry.name), range(answer)])), [2]);
  const cells = rows.map(({ entry, answer, time }) => [
    [el("a", { href: `gpus/${entry.id}/` }, entry.name), el("small", { class: "fa-under" }, `${W.methods[answer.knobs.method]} · ${recipeName(W, answer.knobs.recipe)}`)],
    badge(W, answer.fits), range(answer), time === null ? "–" : duration(W, time), time === null || !entry.usd ? "–" : `$${number(time * entry.usd, 2)}`,
  ]);
  const every = scroll(title, tableOf([W.card, W.fit, `${W.need} (GiB)`, W.time, W.price], cells, [2, 3, 4]));
  const node = panel(title, { "data-inverse": model.id }, closing(view, "w"), ...(rows.length ? [least.length > 0 && start, every].filter(Boolean) : [el("p", {}, W.inverseNone)]));
  return { node, answer: starts ? `${model.name}${W.colon}${starts}` : say(W.inverseNowhere, model.name) };
}

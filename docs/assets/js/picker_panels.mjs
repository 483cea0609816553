// The panels above the list: models side by side, and "what do I need for this model?".
import { answerFor, cardOf, hours } from "./answers.mjs";
import { billions, el, gib, number, tableOf } from "./elements.mjs";
import { badge, duration, evidence, licence, modelUrl, needs, priceOf, recipeName, samplesOf } from "./picker_rows.mjs";
import { METHOD, say } from "./words.mjs";

const panel = (title, attributes, ...content) => el("section", { class: "fa-panel", ...attributes }, el("h2", {}, title), ...content);
const scroll = (label, table) => el("div", { class: "fa-scroll", tabindex: "0", role: "region", "aria-label": label }, table);

/** Up to four priced models beside each other; null below two. */
export function comparison(view, results) {
  const { W, state, change } = view;
  const chosen = state.x.split(",").map((id) => results.find((r) => r.model.id === id)).filter((r) => r?.answer);
  if (chosen.length < 2) return null;
  const times = new Map(chosen.map((r) => [r, hours(r.answer, samplesOf(view), state.e)]));
  const line = (word, cell) => [word, ...chosen.map(cell)];
  const rows = [
    line(W.fit, (r) => badge(W, r.answer.fits)), line(W.method, (r) => `${METHOD[r.answer.knobs.method]} · ${recipeName(W, r.answer.knobs.recipe)}`),
    line(W.need, (r) => needs(W, r.answer)), line(W.micro, (r) => String(r.answer.knobs.micro_batch)),
    line("token/s", (r) => (r.answer.tokens_per_second ? number(r.answer.tokens_per_second, 0) : "–")),
    line(W.time, (r) => (times.get(r) === null ? "–" : duration(W, times.get(r)))),
    priceOf(view) && line(W.price, (r) => (times.get(r) === null ? "–" : `${state.p ? "" : "$"}${number(times.get(r) * priceOf(view), 2)}`)),
    line(W.basisWord, (r) => el("span", { class: "basis", "data-basis": r.answer.basis }, W[r.answer.basis])),
    line(W.parts.quality, (r) => evidence(W, r)), line(W.parts.licence, (r) => licence(W, r.model)),
    line(W.parts.size, (r) => billions(r.model.parameters)), line(W.parts.recency, (r) => r.model.released?.slice(0, 7) ?? "–"),
  ].filter(Boolean);
  const head = [W.model, ...chosen.map((r) => el("a", { href: modelUrl(r.model.id) }, r.model.name))];
  return panel(W.comparing, { "data-compared": "" }, el("button", { type: "button", class: "fa-button", onclick: () => change({ x: "" }, true) }, W.close), scroll(W.comparing, tableOf(head, rows)));
}

/** Every card of the catalog that holds one model: the smallest first. null for a model that is not in the catalog. */
export function inverse(view) {
  const { W, data, table, state, task, change } = view;
  const model = data.models.find((entry) => entry.id === state.w);
  if (!model) return null;
  const rows = [];
  for (const entry of data.gpus) {
    if (!entry.gb || !entry.count) continue;
    const card = cardOf(entry.id, data, table);
    const answer = answerFor(table, model, state, task, card);
    if (answer && answer.fits !== "no") rows.push({ entry, answer, time: hours(answer, samplesOf(view), state.e) });
  }
  rows.sort((a, b) => a.entry.gb * a.entry.count - b.entry.gb * b.entry.count || (a.time ?? 1e9) - (b.time ?? 1e9));
  const cells = rows.map(({ entry, answer, time }) => [
    el("a", { href: `gpus/${entry.id}/` }, entry.name), badge(W, answer.fits), `${METHOD[answer.knobs.method]} · ${recipeName(W, answer.knobs.recipe)}`,
    `${gib(answer.needed)} (${gib(answer.low)}–${gib(answer.high)})`, time === null ? "–" : duration(W, time),
    time === null || !entry.usd ? "–" : `$${number(time * entry.usd, 2)}`,
  ]);
  const title = say(W.inverse, model.name, rows.length);
  const close = el("button", { type: "button", class: "fa-button", onclick: () => change({ w: "" }, true) }, W.close);
  const head = [W.card, W.fit, W.method, `${W.need} (GiB)`, W.time, W.price];
  return panel(title, { "data-inverse": model.id }, close, rows.length ? scroll(title, tableOf(head, cells, [3, 4, 5])) : el("p", {}, W.inverseNone));
}

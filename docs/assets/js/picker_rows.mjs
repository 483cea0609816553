// One model of the picker's list: verdict, memory bar, figures, why, and the door to its details.
import { isOld } from "./age.mjs";
import { hours } from "./answers.mjs";
import { billions, el, gib, number, shortCount } from "./elements.mjs";
import { format } from "./state.mjs";
import { say } from "./words.mjs";

const ICON = { yes: "✓", tight: "≈", no: "✕", null: "?" };
export const PARTS = ["weights", "adapters", "gradients", "optimizer", "activations", "logits", "other"];

export const modelUrl = (id) => `models/${id}/`;
export const verdict = (W, fits) => ({ yes: W.fits, tight: W.tight, no: W.no })[fits] ?? W.none;
export const recipeName = (W, recipe) => (recipe === "lean" ? W.leanName : W.stock);
export const duration = (W, h) => (h < 1 ? say(W.minutes, Math.max(1, Math.round(h * 60))) : say(W.hours, number(h, h < 10 ? 1 : 0)));
export const needs = (W, answer) => say(W.needs, gib(answer.needed), gib(answer.low), gib(answer.high));

/** Samples that the reader named, else those that the task usually has. */
export const samplesOf = (view) => view.state.n || view.task.samples;
/** Price of the machine per hour: the reader's, else the catalog's rent in US dollars, else 0. */
export const priceOf = (view) => view.state.p || view.card.usd || 0;

export function badge(W, fits) {
  const tip = { yes: W.fitsTip, tight: W.tightTip, no: W.noTip }[fits] ?? "";
  return el("span", { class: `fa-badge fa-${fits ?? "none"}`, title: tip }, el("span", { "aria-hidden": "true" }, ICON[fits], " "), verdict(W, fits));
}

/** What an answer rests on, in one sentence: card, versions and day, or what the estimate was fitted to. */
export function basisNote(view, answer) {
  const { W, data, card } = view;
  if (answer.run) {
    const { gpu, versions, date } = answer.run.environment;
    const pace = answer.run.rate === null ? W.basisNoRate : answer.run.pace === "processor" ? W.basisLaunched : "";
    return say(W.basisRun, gpu, versions, date) + (answer.run.cap === null ? W.basisNoCap : "") + pace;
  }
  const fitted = data.fitted;
  const days = fitted && (fitted.from === fitted.to ? fitted.to : `${fitted.from} – ${fitted.to}`);
  const from = fitted ? say(W.basisFitted, fitted.runs, fitted.gpus.join(W.comma), fitted.versions[0] ?? "", days) : W.basisNoFit;
  const shape = answer.basis === "interpolated" ? W.basisNear : W.basisShape;
  const waits = answer.tokens_per_second && answer.pace === "processor" ? W.basisWaits : "";
  return shape + from + (answer.tokens_per_second && !card.figures.measured ? W.basisSpeed : "") + waits;
}

function basisMark(view, answer) {
  const word = view.W[answer.basis];
  const note = basisNote(view, answer);
  return el("button", { type: "button", class: "basis fa-basis", "data-basis": answer.basis, "data-tip": note, "aria-label": `${word}${view.W.colon}${note}` }, word);
}

/** Memory by part against the card: segments, the 90 % interval, the card's line. */
function bar(W, answer, figures) {
  const scale = Math.max(answer.high, figures.usable_bytes) * 1.04;
  const at = (bytes) => `${((100 * bytes) / scale).toFixed(2)}%`;
  const usable = say(W.usable, gib(figures.usable_bytes));
  const place = (node, left, width) => {
    node.style.left = at(left);
    if (width !== undefined) node.style.width = at(width);
    return node;
  };
  let left = 0;
  const pieces = PARTS.map((name) => [name, Math.max(0, answer.breakdown[name] || 0)]);
  pieces.push(["context", Math.max(0, answer.needed - answer.allocated)]);
  const segments = pieces.filter(([, size]) => size > 0).map(([name, size]) => {
    left += size;
    return place(el("span", { class: `fa-part fa-part-${name}`, title: `${W[name]} ${gib(size)} GiB` }), left - size, size);
  });
  return el("div", { class: "fa-bar", role: "img", "aria-label": `${needs(W, answer)}${W.comma}${usable}` }, ...segments,
    place(el("span", { class: "fa-interval" }), answer.low, answer.high - answer.low),
    place(el("span", { class: "fa-limit", title: usable }), figures.usable_bytes));
}

function figuresLine(view, answer) {
  const { W, state, card } = view;
  const time = hours(answer, samplesOf(view), state.e);
  const price = priceOf(view);
  const unit = state.p ? "" : "$";
  const out = [el("strong", {}, needs(W, answer))];
  out.push(el("span", {}, answer.tokens_per_second ? say(W.speed, number(answer.tokens_per_second, 0)) : W.noSpeed));
  if (time !== null) out.push(el("span", {}, duration(W, time)));
  if (time !== null && price) out.push(el("span", {}, say(W.cost, unit + number(time * price, 2), unit + number(price, 2))));
  if (answer.sharded) out.push(el("span", {}, say(W.sharded, card.count)));
  out.push(basisMark(view, answer));
  return el("p", { class: "fa-figures" }, ...out);
}

/** The day on which the Hub's figures of a model were read, and whether that is over 30 days ago. */
function readOn(W, { read, old }) {
  return say(read && (old || isOld(read)) ? W.readOld : W.read, read ?? W.noDay);
}

/** What published, comparable scores say of a model for the task. */
export function evidence(W, { model, index }) {
  const standing = model.standing[index];
  return standing === null ? W.noEvidence : say(W.better, model.tables[index], Math.round(100 * standing));
}

export function licence(W, model) {
  return model.licence ? `${model.licence}${W.open}${W.commercial[model.commercial]}${W.closing}` : W.commercial[model.commercial];
}

function whyLine(W, result) {
  const { model } = result;
  const out = [evidence(W, result), licence(W, model)];
  if (model.gated) out.push(W.gated);
  if (model.released) out.push(say(W.released, model.released.slice(0, 7)));
  if (model.downloads) out.push(say(W.downloads, shortCount(model.downloads)) + readOn(W, model));
  return el("p", { class: "fa-why" }, ...out.flatMap((text, i) => (i ? [" · ", el("span", {}, text)] : [el("span", {}, text)])));
}

/** What is known of the lean recipe's training, where an answer uses it. */
export function leanNote(view) {
  const compared = view.data.lean_compared;
  if (!compared) return view.W.leanUnproven;
  return say(compared.agree ? view.W.leanProven : view.W.leanDiffers, compared.models.length, compared.steps, compared.date);
}

/** The row of a model. Its details are built when they are opened. */
export function row(view, result, place) {
  const { W, state, change, card } = view;
  const { model, answer } = result;
  const compared = state.x.split(",").includes(model.id);
  const toggle = el("input", { type: "checkbox", checked: compared, "aria-label": `${W.compare} ${model.name}`, onchange: ({ target }) => {
    const ids = state.x.split(",").filter(Boolean).filter((id) => id !== model.id);
    change({ x: (target.checked ? [...ids, model.id].slice(-4) : ids).join(",") }, true);
  } });
  const more = el("details", { open: state.d === model.id }, el("summary", {}, W.details));
  more.addEventListener("toggle", async () => {
    if (more.open && more.children.length === 1) {
      const { detail } = await import("./picker_detail.mjs");
      if (more.children.length === 1) more.append(detail(view, result));
    }
    if (more.isConnected && more.open !== (state.d === model.id)) {
      state.d = more.open ? model.id : "";
      history.replaceState(null, "", location.pathname + format(state));
    }
  });
  const notes = [];
  if (answer?.knobs.recipe === "lean") {
    const proven = view.data.lean_compared?.agree;
    notes.push(el("p", { class: proven ? "fa-why" : "fa-aside" }, `${W.leanName}${W.colon}${leanNote(view)}`));
  }
  if (answer && model.context && answer.knobs.seq_len > model.context) notes.push(el("p", { class: "fa-aside" }, say(W.beyond, number(model.context, 0))));
  return el("li", { class: "fa-result", "data-id": model.id, "data-fits": answer?.fits ?? "none", "data-method": answer?.knobs.method, "data-recipe": answer?.knobs.recipe },
    el("div", { class: "fa-head" },
      el("span", { class: "fa-place", "aria-hidden": "true" }, String(place)),
      el("h2", {}, el("a", { href: modelUrl(model.id) }, model.name)), el("span", { class: "fa-muted" }, billions(model.parameters)),
      answer && el("span", { class: "fa-chip" }, `${W.methods[answer.knobs.method]} · ${recipeName(W, answer.knobs.recipe)}`),
      badge(W, answer?.fits ?? null), el("label", { class: "fa-compare" }, toggle, W.compare)),
    answer && bar(W, answer, card.figures), answer && figuresLine(view, answer), whyLine(W, result),
    ...notes, more);
}

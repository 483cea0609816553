// What stands behind an answer: settings, memory by part, basis, the ladder of switches, the training config, the rank.
import { ladder } from "./answers.mjs";
import { config, FRAMEWORKS } from "./configs.mjs";
import { el, gib, number, tableOf } from "./elements.mjs";
import { badge, basisNote, evidence, leanNote, modelUrl, PARTS, recipeName, verdict } from "./picker_rows.mjs";
import { say } from "./words.mjs";

const MODELS = new URL("../../api/v1/models/", import.meta.url);
const CITED = 6;

function settings({ W, card }, answer) {
  const { knobs } = answer;
  const adapters = !knobs.method.startsWith("full") && knobs.method !== "prompt_tuning";
  return tableOf(null, [
    [W.card, card.name], [W.method, W.methods[knobs.method]], [W.recipe, recipeName(W, knobs.recipe)],
    [W.seq, number(knobs.seq_len, 0)], [W.micro, String(knobs.micro_batch)],
    [W.gc, knobs.gradient_checkpointing ? W.on : W.off], [W.rankWord, adapters ? String(knobs.lora_rank) : "–"],
    [W.targets, adapters ? W.allLinear : "–"], [W.basisWord, basisOf(W, answer)],
  ], [1]);
}

const basisOf = (W, answer) => el("span", { class: "basis", "data-basis": answer.basis }, W[answer.basis]);

/** Bars of the parts with their sizes: the breakdown chart, which is a table as well. */
function breakdown({ W }, answer) {
  const rows = PARTS.map((name) => [name, answer.breakdown[name] || 0]);
  rows.push(["context", answer.needed - answer.allocated]);
  const largest = Math.max(...rows.map(([, size]) => size));
  const known = rows.filter(([, size]) => size > 0).map(([name, size]) => {
    const mark = el("span", { class: `fa-share fa-part-${name}`, "aria-hidden": "true" });
    mark.style.width = `${(100 * size) / largest}%`;
    return [[W[name], mark], gib(size), `${Math.round((100 * size) / answer.needed)}%`];
  });
  const span = ([low, high]) => `${gib(low)}–${gib(high)}`;
  const totals = [[W.allocated, answer.allocated, answer.ranges.allocated], [W.reserved, answer.reserved, answer.ranges.reserved],
    [W.needWord, answer.needed, [answer.low, answer.high]]];
  return [tableOf([W.part, W.size, W.share], known, [1, 2]),
    tableOf(["", W.size, W.interval], totals.map(([word, value, range]) => [word, gib(value), span(range)]), [1, 2])];
}

function steps(view, result) {
  const { W } = view;
  const found = ladder(view.table, result.model, result.answer, view.card);
  if (!found.length) return [el("p", {}, W.ladderEmpty)];
  const enough = found.findIndex((step) => step.together === "yes");
  const lead = result.answer.fits === "yes" ? W.ladderMore : enough < 0 ? W.ladderNever : say(W.ladderEnough, enough + 1);
  const words = (step) => {
    if (step.name === "lean") return `${W.lean}${W.open}${leanNote(view)}${W.closing}`;
    return say(W[step.name], number(step.knobs.seq_len, 0));
  };
  return [el("p", { class: "fa-muted" }, lead), el("ol", { class: "fa-ladder" }, ...found.map((step, i) => el("li", i === enough && result.answer.fits !== "yes" ? { class: "fa-enough" } : {},
    el("span", {}, words(step)), " ",
    el("strong", {}, step.saves >= 0 ? say(W.saves, gib(step.saves)) : say(W.costs, gib(-step.saves))), " ",
    badge(W, step.fits), " ", el("span", { class: "fa-muted" }, say(W.upto, gib(step.needed), verdict(W, step.together))))))];
}

function configBlock(view, { model, answer }) {
  const { W, state, card } = view;
  const code = el("code", {});
  const pre = el("pre", { tabindex: "0", role: "region", "aria-label": W.config }, code);
  const note = el("p", { class: "fa-muted" });
  const copy = el("button", { type: "button", class: "fa-button", onclick: async () => {
    await navigator.clipboard.writeText(code.textContent);
    copy.textContent = W.copied;
    setTimeout(() => { copy.textContent = W.copy; }, 1500);
  } }, W.copy);
  const pick = el("select", { "aria-label": W.config }, ...FRAMEWORKS.map((f) => el("option", { value: f.id }, f.name)));
  const draw = () => {
    const framework = FRAMEWORKS.find((f) => f.id === pick.value);
    const bf16 = card.entry?.bf16 !== "none";
    const text = config(framework.id, { hub: model.hub, template: model.template, remote: model.remote, epochs: state.e, bf16, knobs: answer.knobs });
    code.textContent = text ?? "";
    pre.hidden = copy.hidden = text === null;
    note.textContent = text === null ? say(W.noConfig, framework.name) : say(framework.checked(answer.knobs) ? W.checked : W.unchecked, framework.name, framework.version);
  };
  pick.addEventListener("change", draw);
  draw();
  const grown = answer.knobs.method.startsWith("full") ? W.noAccumulation : W.accumulation;
  const remarks = card.count > 1 ? [grown, say(W.manyCards, card.count)] : [grown];
  return el("div", { class: "fa-config" }, el("div", { class: "fa-config-bar" }, pick, copy), pre, note, ...remarks.map((text) => el("p", { class: "fa-muted" }, text)));
}

function rank({ W, data }, result) {
  const rows = Object.entries(data.ranking.weights).map(([name, weight]) => [W.parts[name], number(result.part[name], 2), `× ${weight}`]);
  return [tableOf(["", W.value, W.weight], rows, [1, 2]), el("p", { class: "fa-muted" }, say(W.rankTotal, number(result.score, 2)), " ", el("a", { href: "#ranking" }, W.rankHow))];
}

/** Why the model is in the guide, and the published scores behind its standing; read when the details are opened. */
function citations(view, result) {
  const { W, lang, task } = view;
  const about = el("p", {});
  const scores = el("div", {}, el("p", { class: "fa-muted" }, evidence(W, result)));
  fetch(new URL(`${result.model.id}.json`, MODELS)).then((answer) => answer.json()).then(({ entry, evidence: found, groups }) => {
    about.textContent = entry.why[lang];
    const cited = found[task.id]?.scores.slice(0, CITED) ?? [];
    if (!cited.length) return;
    scores.append(tableOf([W.benchmark, W.scoreWord, W.placeWord], cited.map((score) => {
      const { title, url } = groups[score.group] ?? { title: score.group };
      const source = url?.startsWith("https://") ? el("a", { href: url, rel: "noopener" }, title) : title;
      const inTable = el("small", { class: "fa-source", lang: lang === "en" ? null : "en" }, [score.setting, ""].filter(Boolean).join(" "), " ", source);
      return [[score.benchmark, " ", inTable], String(score.score), `${score.place} / ${score.compared}`];
    }), [1, 2]), el("p", { class: "fa-muted" }, W.placeNote));
  }).catch(() => { scores.append(el("p", { class: "fa-muted" }, W.loadError)); });
  return [about, scores];
}

/** The opened details of a result. */
export function detail(view, result) {
  const { W } = view;
  const { model, answer } = result;
  const body = el("div", { class: "fa-detail" });
  const column = (title, ...content) => body.append(el("section", {}, el("h3", {}, title), ...content.flat()));
  if (answer) {
    column(W.settings, settings(view, answer), el("p", { class: "fa-muted" }, basisNote(view, answer)));
    column(W.breakdown, breakdown(view, answer));
    column(W.ladder, steps(view, result));
    column(W.config, configBlock(view, result));
  }
  column(W.why, citations(view, result));
  column(W.order, rank(view, result));
  body.append(el("p", { class: "fa-links" }, el("a", { href: modelUrl(model.id) }, W.page), " · ",
    el("button", { type: "button", class: "fa-link", onclick: () => view.change({ w: model.id }, true) }, W.needFor)));
  return body;
}

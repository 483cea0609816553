// Order of the models. Each part is 0 to 1; weights come from catalog/ranking.yaml through /api/v1/picker.json.

const COMMERCIAL = [0, 0.3, 0.7, 1]; // no, unknown, conditions, yes

const months = (date) => Number(date.slice(0, 4)) * 12 + Number(date.slice(5, 7) || 1);

/** How well a size suits a task: 1 inside [low, high], 0.5 at half or double of it, falling on. Sizes in billions. */
export function sizeSuits(billions, [low, high]) {
  if (!billions) return 0;
  const away = billions < low ? Math.log2(low / billions) : billions > high ? Math.log2(billions / high) : 0;
  return Math.pow(0.5, away);
}

/** Parts of a model's rank. `fits` is "yes", "tight", "no" or null; `index` is the position of the task. */
export function parts(model, task, index, language, fits, ranking, dataDate) {
  const standing = model.standing[index];
  const languages = model.languages;
  const age = model.released ? months(dataDate) - months(model.released) : ranking.recency_months;
  return {
    fit: fits === "yes" ? 1 : fits === "tight" ? 0.5 : 0,
    quality: standing === null ? ranking.quality.without_evidence : standing,
    size: sizeSuits(model.parameters / 1e9, task.size),
    start: task.start.includes(model.variant) ? 1 : 0,
    language: !language || language === "any" ? 1 : languages ? Number(languages.includes(language)) : ranking.language_unknown,
    licence: COMMERCIAL[model.commercial],
    recency: Math.max(0, Math.min(1, 1 - age / ranking.recency_months)),
    popularity: model.downloads ? Math.min(1, Math.log10(model.downloads) / Math.log10(ranking.popularity_full)) : 0,
  };
}

/** Weighted mean of the parts, 0 to 1. */
export function score(part, model, ranking) {
  let sum = 0;
  let total = 0;
  for (const [name, weight] of Object.entries(ranking.weights)) {
    sum += weight * part[name];
    total += weight;
  }
  const status = model.status === "current" ? 1 : ranking.superseded;
  return total ? (sum / total) * status : 0;
}

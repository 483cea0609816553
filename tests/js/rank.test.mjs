import assert from "node:assert/strict";
import test from "node:test";
import { parts, score, sizeSuits } from "../../docs/assets/js/rank.mjs";

const ranking = {
  weights: { fit: 3, quality: 3, size: 2, start: 1, language: 2, licence: 1, recency: 1, popularity: 1 },
  quality: { without_evidence: 0.2 }, language_unknown: 0.7, recency_months: 36, popularity_full: 1e7, superseded: 0.6,
};
const task = { size: [1.5, 8], start: ["chat"] };
const model = { standing: [0.9], languages: ["zh"], released: "2026-01-10", parameters: 4e9, variant: "chat", commercial: 3, downloads: 1e6, status: "current" };
const rank = (change, fits = "yes") => {
  const changed = { ...model, ...change };
  return score(parts(changed, task, 0, "zh", fits, ranking, "2026-09-24"), changed, ranking);
};

test("a size inside the range suits, double of it half", () => {
  assert.equal(sizeSuits(4, [1.5, 8]), 1);
  assert.equal(sizeSuits(16, [1.5, 8]), 0.5);
  assert.equal(sizeSuits(0.75, [1.5, 8]), 0.5);
});

test("each thing a reader would want raises the rank", () => {
  const best = rank({});
  assert.ok(rank({}, "tight") < best);
  assert.ok(rank({}, "no") < rank({}, "tight"));
  for (const worse of [{ standing: [0.1] }, { standing: [null] }, { languages: ["en"] }, { languages: null }, { released: "2023-01" },
    { parameters: 7e10 }, { variant: "base" }, { commercial: 0 }, { downloads: 10 }, { status: "superseded" }])
    assert.ok(rank(worse) < best, JSON.stringify(worse));
});

test("a model without evidence counts the fixed share, never a made-up score", () => {
  assert.equal(parts({ ...model, standing: [null] }, task, 0, "zh", "yes", ranking, "2026-09-24").quality, 0.2);
});

test("every score is between 0 and 1", () => {
  for (const fits of ["yes", "tight", "no", null]) assert.ok(rank({ released: null, downloads: null, parameters: null }, fits) >= 0 && rank({}, fits) <= 1);
});

"""The claims of the article that this guide replaces, held against its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..dataset import Dataset
from ..records import GIB, ClaimEntry, ModelEntry
from .cells import Cells, Need

Verdict = Literal["holds", "too_low", "too_high", "partly", "wrong", "untestable"]


@dataclass(frozen=True)
class Tested:
    """One claim with the figures it was held against."""

    claim: ClaimEntry
    verdict: Verdict
    rows: Sequence[tuple[ModelEntry, Need | None, Need | None]]
    """Model, need with the claim's recipe, need with the lean recipe."""


def decide(values: Sequence[float], low: float | None, high: float | None) -> Verdict:
    """Verdict on "needs `low` to `high`" (GiB, None = open) from what the models need (GiB).

    Only an upper bound says "fits in `high`"; only a lower one says "needs `low` or more". With both, every model must
    lie between. `too_low`: the claim promises less than every model needs; `too_high`: more than any needs.
    """
    if not values or (low is None and high is None):
        return "untestable"
    above = [high is not None and value > high for value in values]
    below = [low is not None and value < low for value in values]
    if not any(above) and not any(below):
        return "holds"
    if all(above):
        return "too_low"
    if all(below):
        return "too_high"
    return "partly"


def judge_words(claim: ClaimEntry) -> Verdict:
    """Verdict of a claim that no figure decides, from how its written verdict begins."""
    words = claim.verdict.zh if claim.verdict else ""
    if words.startswith(("不成立", "已过时", "自相矛盾", "硬件写错")) or "都不成立" in words:
        return "wrong"
    if words.startswith(("成立", "大致成立")):
        return "holds"
    return "partly" if words.startswith(("参数量成立", "对 2023", "对原文")) else "untestable"


def hold_claims(dataset: Dataset, cells: Cells) -> list[Tested]:
    """Every claim in the article's order."""
    by_hub = {model.hub_id.lower(): model for model in dataset.catalog.models.values()}
    tested = []
    for claim in sorted(dataset.catalog.claims.values(), key=lambda c: order(c.id)):
        rows: list[tuple[ModelEntry, Need | None, Need | None]] = []
        if claim.method and (claim.vram_gb_low is not None or claim.vram_gb_high is not None):
            for hub_id in claim.models:
                model = by_hub.get(hub_id.lower())
                if model is not None:
                    rows.append(
                        (model, cells.need(model, claim.method, claim.recipe), cells.need(model, claim.method, "lean"))
                    )
        values = [need.value / GIB for _, need, _ in rows if need]
        verdict = decide(values, claim.vram_gb_low, claim.vram_gb_high) if values else judge_words(claim)
        tested.append(Tested(claim, verdict, rows))
    return tested


def order(claim_id: str) -> tuple[int, int, str]:
    """``s9-04b`` → (9, 4, "s9-04b")."""
    section, _, number = claim_id.removeprefix("s").partition("-")
    digits = "".join(c for c in number if c.isdigit())
    return int(section) if section.isdigit() else 99, int(digits or 0), claim_id

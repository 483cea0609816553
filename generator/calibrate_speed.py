"""Fits speed: figures of a card and of the processor that launches its kernels, and per recipe × method × checkpointing
how far counted work and launches are off (``estimate_time.py``).

The card's own time of a step is measured apart (``Run.gpu_seconds``), so its four figures and the factors of its work
are fitted to that, which repeats to a percent. Seconds per launch and per layer and the factors of launches are then
fitted to whole steps, each at the pace that its processor had meanwhile (``Run.processor_pace``). All are found by
pattern search on the mean absolute log error, in turns. A set's factor is that of its recipe and method times one for
going without checkpointing; both are pulled towards 1 where runs are few. Traced cells and those in closed form have
factors of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from .accuracy import is_timed, locate
from .estimate import Coefficients, evaluate
from .estimate_time import Work
from .records import GpuEntry, Run

LEAST_RUNS_OF_A_CARD = 10
PULL = 0.3
"""Cost of a factor's squared logarithm, in the unit of the summed relative errors of its runs."""
ROUNDS = 4
CARD_START = (8e14, 3.3e14, 2.4e12, 2e-6)
HOST_START = (36e-6, 3e-3)
OFF = "off"
FALLBACK = {"qlora": ("lora",), "lora_8bit": ("qlora", "lora"), "dora": ("lora",), "prompt_tuning": ("lora",),
            "lora": ("qlora",), "full_bf16_adam8bit": ("full",), "full": ("full_bf16_adam8bit",)}  # fmt: skip
"""Method → those whose fit it takes, the nearest first, when it has no runs."""
Factors = dict[str, float]
"""Recipe/method, or OFF → factor."""


def pattern_search(
    cost: Callable[[Sequence[float]], float], start: Sequence[float], rounds: int = 60
) -> tuple[list[float], float]:
    """Minimise over positive numbers by multiplicative steps; deterministic."""
    best, value, step = list(start), cost(start), 0.4
    for _ in range(rounds):
        improved = False
        for index in range(len(best)):
            for sign in (1, -1):
                trial = list(best)
                trial[index] *= math.exp(sign * step)
                other = cost(trial)
                if other < value - 1e-12:
                    best, value, improved = trial, other, True
        if not improved:
            step *= 0.5
            if step < 0.003:
                break
    return best, value


def ceilings(gpu: GpuEntry | None) -> list[float]:
    """What the fitted figures of a card may not exceed: its published rates (FLOP/s, FLOP/s, bytes/s)."""
    rate = (gpu.bf16_dense_tflops or gpu.fp16_dense_tflops) if gpu else None
    bandwidth = gpu.bandwidth_gb_s if gpu else None
    peak = rate * 1e12 if rate else math.inf
    return [peak, peak, bandwidth * 1e9 if bandwidth else math.inf, math.inf]


def families(name: str) -> tuple[str, str | None]:
    """(recipe/method, OFF or None) of a set: what its factor is made of."""
    recipe, method, checkpointing = name.split("/")
    return f"{recipe}/{method}", OFF if checkpointing == "off" else None


def factor_of(factors: Factors, name: str) -> float:
    """The factor of a set; without runs of its recipe and method, that of the nearest relative's."""
    family, off = families(name)
    recipe, method = family.split("/")
    names = (f"{recipe}/{each}" for each in (method, *FALLBACK[method]))
    own = next((factors[each] for each in names if each in factors), 1.0)
    return own * (factors.get(OFF, 1.0) if off else 1.0)


def card_seconds(run: Run) -> float | None:
    """The card's own seconds of a step: measured, or those of the whole step where it set the pace."""
    return run.gpu_seconds or (run.step_seconds if run.paced_by == "gpu" else None)


class Steps:
    """The work of measured steps, for evaluating many figures and factors at once."""

    def __init__(self, table: Coefficients, runs: Sequence[Run]) -> None:
        self.sets = np.array([locate(table, run)[0].id for run in runs])
        self.names, self.positions = np.unique(self.sets, return_inverse=True)
        works = [self._work(table, run) for run in runs]
        columns = {field.name: [float(getattr(work, field.name)) for work in works] for field in fields(Work)}
        self.work: Any = SimpleNamespace(**{name: np.array(values) for name, values in columns.items()})
        self.gpu_seconds = np.array([card_seconds(run) or math.nan for run in runs], dtype=float)
        self.timed = np.array([is_timed(run) and run.processor_pace is not None for run in runs], dtype=bool)
        self.seconds = np.array([run.step_seconds or math.nan for run in runs], dtype=float)
        self.pace = np.array([run.processor_pace or 1.0 for run in runs], dtype=float)

    @staticmethod
    def _work(table: Coefficients, run: Run) -> Work:
        work = evaluate(*locate(table, run), run.case).work
        assert work is not None
        return work

    def spread(self, factors: Factors) -> Any:
        """Each run's factor."""
        return np.array([factor_of(factors, name) for name in self.names])[self.positions]

    def card(self, p: Sequence[float], factor: Any) -> tuple[Any, Any, Any]:
        """Seconds that the card works on layers, loss and update."""
        layers = self.work.matmul / p[0] + self.work.attention / p[1] + self.work.moved / p[2]
        layers = layers * factor + self.work.launches * p[3]
        return layers, self.work.loss_flops / p[0] + self.work.loss_moved / p[2], self.work.update_moved / p[2]

    def errors_of_card(self, p: Sequence[float], factor: Any) -> Any:
        """Log errors of the card's own seconds."""
        return np.log(sum(self.card(p, factor)) / self.gpu_seconds)

    def errors(self, p: Sequence[float], work: Any, host: Sequence[float], launches: Any) -> Any:
        """Log errors of the seconds of whole steps."""
        layers, loss, update = self.card(p, work)
        launched = (self.work.launches * host[0] + self.work.layers * host[1]) * launches * self.pace
        together = (layers**8 + launched**8) ** 0.125
        loss = np.maximum(loss, self.work.loss_launches * host[0] * self.pace)
        return np.log((together + loss + update) / self.seconds)

    def fit_factors(self, errors: Callable[[Any], Any], rows: Any, known: Factors) -> Factors:
        """Factors that make ``errors`` of a run's factors smallest on ``rows``; ``known`` is where to start."""
        found = dict(known)
        keys = [*sorted({families(name)[0] for name in self.sets[rows]}), OFF]
        for key in keys:
            found.setdefault(key, 1.0)
        for key in keys:
            mine = rows & np.array([key in families(name) for name in self.sets])
            if not mine.any():
                continue

            def cost(x: Sequence[float], key: str = key, mine: Any = mine) -> float:
                off = np.abs(errors(self.spread({**found, key: x[0]}))[mine])
                return float(off.sum()) + PULL * math.log(x[0]) ** 2

            best, _ = pattern_search(cost, [found[key]], 30)
            found[key] = min(max(best[0], 0.3), 4.0)
        return {key: float(f"{value:.4g}") for key, value in found.items()}


def fit_card(
    steps: Steps, most: Sequence[float], fixed: Factors | None = None, near: Sequence[float] | None = None
) -> tuple[list[float], Factors]:
    """The four figures of a card and the factors of its work, which may be ``fixed`` by another card.

    ``near``: figures to begin with, which a round changes little.
    """
    factors: Factors = fixed or {}
    point: list[float] = list(near or CARD_START)
    rows = ~np.isnan(steps.gpu_seconds)
    for _ in range(1 if near or fixed else ROUNDS):
        spread = steps.spread(factors)

        def cost(p: Sequence[float], spread: Any = spread) -> float:
            excess = 10 * sum(max(value / limit - 1, 0.0) for value, limit in zip(p, most, strict=True))
            return float(np.mean(np.abs(steps.errors_of_card(p, spread)[rows]))) + excess

        point, _ = pattern_search(cost, point)
        point = [min(value, limit) for value, limit in zip(point, most, strict=True)]
        if fixed is None:
            factors = steps.fit_factors(partial(steps.errors_of_card, point), rows, factors)
    return [float(f"{value:.4g}") for value in point], factors


def fit_host(
    steps: Steps, p: Sequence[float], work: Factors, fixed: Sequence[float] | None = None
) -> tuple[list[float], Factors]:
    """Seconds per launch and per layer of the reference host, which may be ``fixed``, and the factors of launches."""
    factors: Factors = {}
    point = list(fixed or HOST_START)
    rows, spread = steps.timed, steps.spread(work)
    for _ in range(ROUNDS):
        if fixed is None:
            launches = steps.spread(factors)

            def cost(x: Sequence[float], launches: Any = launches) -> float:
                return float(np.mean(np.abs(steps.errors(p, spread, x, launches)[rows])))

            point, _ = pattern_search(cost, point)
        factors = steps.fit_factors(partial(steps.errors, p, spread, point), rows, factors)
    return [float(f"{value:.4g}") for value in point], factors


def fit_speed(
    closed: Coefficients, base: Coefficients, runs: Sequence[Run], gpus: Mapping[str, GpuEntry]
) -> tuple[dict[str, list[float]], dict[str, dict[str, list[float]]]]:
    """GPU id → [matmul, attention, bandwidth, kernel seconds, launch seconds, layer seconds]; set id → {traced, closed:
    [factor of work, of launches]}.

    Factors and the host's figures are those of the card with most runs; every other card is fitted with them.
    """
    known = [run for run in runs if card_seconds(run)]
    figures: dict[str, list[float]] = {}
    pairs: dict[str, tuple[Factors, Factors]] = {}
    host: list[float] = []
    cards = sorted({run.gpu for run in known}, key=lambda gpu: (-sum(run.gpu == gpu for run in known), gpu))
    for gpu in cards:
        mine = [run for run in known if run.gpu == gpu]
        sound = [run for run in mine if locate(base, run)[2].extra is not None]
        if len(sound) < LEAST_RUNS_OF_A_CARD:
            sound = mine
        if len(sound) < LEAST_RUNS_OF_A_CARD:
            continue
        steps, most = Steps(base, sound), ceilings(gpus.get(gpu))
        if pairs:
            point, _ = fit_card(steps, most, pairs["traced"][0])
        else:
            point, work = fit_card(steps, most)
            host, launches = fit_host(steps, point, work)
            pairs["traced"] = work, launches
            plain = Steps(closed, mine)
            rows = ~np.isnan(plain.gpu_seconds)
            own: Factors = {}
            for _ in range(ROUNDS):
                own = plain.fit_factors(partial(plain.errors_of_card, point), rows, own)
            pairs["closed"] = own, fit_host(plain, point, own, host)[1]
        figures[gpu] = [*point, *host]
    factors = {
        entry.id: {kind: [float(f"{factor_of(part, entry.id):.4g}") for part in pair] for kind, pair in pairs.items()}
        for entry in base.sets
    }
    return figures, factors

"""Fits speed: figures of a card, and per recipe × method × checkpointing how far counted work and kernels are off.

A step takes ``((busy·f)⁴ + (launches·g·seconds per launch)⁴)^¼``: it is bound by the card or by the processor that
launches its kernels. Only steps that were timed undisturbed are used, and which of the two a step was bound by is
measured (``Run.paced_by``): the card's four figures and the factors of its work are fitted on steps that the card set
the pace of, seconds per launch and the factors of launches on the others. The former repeat to a percent and the latter
to a third, so neither may pull at the other. All are found by pattern search on the mean absolute log error, in turns;
factors are pulled towards 1 where runs are few, and folded into the cells' terms, apart for traced cells and for those
in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .accuracy import locate
from .estimate import SPEED_UNITS, Coefficients
from .records import GpuEntry, Run

LEAST_RUNS_OF_A_CARD = 10
PULL = 0.05
"""Cost of a factor's squared logarithm, in the unit of the summed relative errors of its runs."""
CARD, LAUNCH = (0, 1, 2, 4), (3,)
"""Which of the five figures are the card's, and which the processor's."""
ROUNDS = 4
START = (6.5e14, 3.5e14, 2.4e12, 40e-6, 100.0)
Factors = dict[str, list[float]]
"""Set id → [factor of the card's work, factor of launches]."""


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
    return [peak, peak, bandwidth * 1e9 if bandwidth else math.inf, math.inf, math.inf]


class Steps:
    """The terms of measured steps, for evaluating many figures and factors at once."""

    def __init__(self, table: Coefficients, runs: Sequence[Run]) -> None:
        self.sets = [locate(table, run)[0].id for run in runs]
        self.terms = np.array([self._terms(table, run) for run in runs]).reshape(len(runs), 5)
        self.seconds = np.array([run.step_seconds for run in runs], dtype=float)
        self.launching = np.array([run.paced_by == "processor" for run in runs], dtype=bool)

    @staticmethod
    def _terms(table: Coefficients, run: Run) -> tuple[float, ...]:
        entry, _, cell = locate(table, run)
        seq = run.case.seq_len + entry.virtual_tokens
        tokens = run.case.micro_batch * float(seq)
        s = [value * unit for value, unit in zip(cell.speed, SPEED_UNITS, strict=True)]
        return s[0] * tokens, s[0], s[1] * tokens * seq, s[2] + s[3] * tokens, s[4]

    def errors(self, p: Sequence[float], factors: Factors, rows: Any = slice(None)) -> Any:
        """Log errors of the estimated seconds."""
        names = np.array(self.sets)[rows]
        f = np.array([factors.get(name, [1.0, 1.0]) for name in names])
        return self._errors(p, f[:, 0], f[:, 1], rows)

    def _errors(self, p: Sequence[float], work: Any, launches: Any, rows: Any) -> Any:
        t = self.terms[rows]
        busy = (t[:, 0] + t[:, 1] * p[4]) / p[0] + t[:, 2] / p[1] + t[:, 3] / p[2]
        return np.log(((busy * work) ** 4 + (t[:, 4] * p[3] * launches) ** 4) ** 0.25 / self.seconds[rows])

    def fit_factors(self, p: Sequence[float], known: Factors) -> Factors:
        """The two factors of every set that has runs, each on the runs it is about; ``known`` is where to start."""
        found: Factors = {}
        for name in sorted(set(self.sets)):
            mine = np.array([other == name for other in self.sets])
            pair = list(known.get(name, [1.0, 1.0]))
            for index, rows in ((0, mine & ~self.launching), (1, mine & self.launching)):

                def cost(x: Sequence[float], index: int = index, rows: Any = rows, pair: list[float] = pair) -> float:
                    both = [x[0], pair[1]] if index == 0 else [pair[0], x[0]]
                    return float(np.abs(self._errors(p, both[0], both[1], rows)).sum()) + PULL * math.log(x[0]) ** 2

                if rows.any():
                    best, _ = pattern_search(cost, [pair[index]], 30)
                    pair[index] = min(max(best[0], 0.3), 4.0)
            found[name] = [float(f"{value:.4g}") for value in pair]
        return found


def fit_card(steps: Steps, most: Sequence[float], fixed: Factors | None = None) -> tuple[list[float], Factors]:
    """The five figures of a card and the factors that go with them, which may be ``fixed`` by another card."""
    factors: Factors = fixed or {}
    point: list[float] = list(START)
    for _ in range(ROUNDS):
        for about, rows in ((CARD, ~steps.launching), (LAUNCH, steps.launching)):
            if not rows.any():
                continue

            def cost(x: Sequence[float], about: Any = about, rows: Any = rows, factors: Factors = factors) -> float:
                p = list(point)
                for index, value in zip(about, x, strict=True):
                    p[index] = value
                excess = 10 * sum(max(value / limit - 1, 0.0) for value, limit in zip(p, most, strict=True))
                return float(np.mean(np.abs(steps.errors(p, factors, rows)))) + excess

            best, _ = pattern_search(cost, [point[index] for index in about], 40)
            for index, value in zip(about, best, strict=True):
                point[index] = min(value, most[index])
        if fixed is None:
            factors = steps.fit_factors(point, factors)
    return [float(f"{value:.4g}") for value in point], factors


def fit_speed(
    closed: Coefficients, base: Coefficients, runs: Sequence[Run], gpus: Mapping[str, GpuEntry]
) -> tuple[dict[str, list[float]], Factors, Factors]:
    """GPU id → [matmul, attention, bandwidth, launch seconds, ramp tokens]; factors of traced cells; of closed ones.

    The factors are those of the card with most runs; every other card's figures are fitted with them.
    """
    timed = [run for run in runs if run.step_seconds and run.paced_by]
    figures: dict[str, list[float]] = {}
    traced: Factors = {}
    plain: Factors = {}
    cards = sorted({run.gpu for run in timed}, key=lambda gpu: (-sum(run.gpu == gpu for run in timed), gpu))
    for gpu in cards:
        mine = [run for run in timed if run.gpu == gpu]
        sound = [run for run in mine if locate(base, run)[2].basis == 0]
        if len(sound) < LEAST_RUNS_OF_A_CARD:
            sound = mine
        if len(sound) < LEAST_RUNS_OF_A_CARD:
            continue
        figures[gpu], factors = fit_card(Steps(base, sound), ceilings(gpus.get(gpu)), traced or None)
        if not traced:
            traced, plain = factors, Steps(closed, mine).fit_factors(figures[gpu], {})
    return figures, traced, plain

"""Fits speed: figures of a card, and per recipe × method × checkpointing how far counted work and kernels are off.

A step takes ``((busy·f)⁴ + (launches·g·seconds per launch)⁴)^¼``: it is bound by the card or by the processor that
launches its kernels. The card's five figures are fitted first, by pattern search on the mean relative error; then each
set's two factors, pulled towards 1 where runs are few; both in turns. Factors are folded into the cells' terms, apart
for traced cells and for those in closed form.
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

    def fit_factors(self, p: Sequence[float]) -> Factors:
        """The two factors of every set that has runs."""
        found: Factors = {}
        for name in sorted(set(self.sets)):
            rows = np.array([other == name for other in self.sets])

            def cost(x: Sequence[float], rows: Any = rows) -> float:
                pull = sum(math.log(value) ** 2 for value in x)
                return float(np.abs(self._errors(p, x[0], x[1], rows)).sum()) + PULL * pull

            best, _ = pattern_search(cost, [1.0, 1.0], 30)
            found[name] = [float(f"{min(max(value, 0.4), 2.5):.4g}") for value in best]
        return found


def fit_card(steps: Steps, most: Sequence[float]) -> tuple[list[float], Factors]:
    """The five figures of a card and the factors that go with them."""
    factors: Factors = {}
    point: list[float] = list(START)
    for _ in range(3):

        def cost(p: Sequence[float], factors: Factors = factors) -> float:
            excess = 10 * sum(max(value / limit - 1, 0.0) for value, limit in zip(p, most, strict=True))
            return float(np.mean(np.abs(steps.errors(p, factors)))) + excess

        point, _ = pattern_search(cost, point, 40)
        point = [min(value, limit) for value, limit in zip(point, most, strict=True)]
        factors = steps.fit_factors(point)
    return [float(f"{value:.4g}") for value in point], factors


def fit_speed(
    closed: Coefficients, base: Coefficients, runs: Sequence[Run], gpus: Mapping[str, GpuEntry]
) -> tuple[dict[str, list[float]], Factors, Factors]:
    """GPU id → [matmul, attention, bandwidth, launch seconds, ramp tokens]; factors of traced cells; of closed ones."""
    timed = [run for run in runs if run.step_seconds]
    figures: dict[str, list[float]] = {}
    traced: Factors = {}
    plain: Factors = {}
    for gpu in sorted({run.gpu for run in timed}):
        mine = [run for run in timed if run.gpu == gpu]
        sound = [run for run in mine if locate(base, run)[2].basis == 0]
        if len(sound) < LEAST_RUNS_OF_A_CARD:
            sound = mine
        if len(sound) < LEAST_RUNS_OF_A_CARD:
            continue
        figures[gpu], factors = fit_card(Steps(base, sound), ceilings(gpus.get(gpu)))
        if not traced:
            traced, plain = factors, Steps(closed, mine).fit_factors(figures[gpu])
    return figures, traced, plain

"""Measured runs: ``measurements/results/**/*.json`` → ``Run`` records."""

from __future__ import annotations

from pathlib import Path

from .records import Problem, Run


def read_runs(folder: Path) -> tuple[list[Run], list[Problem]]:
    """Every committed run under `folder`; none is committed yet."""
    return [], []

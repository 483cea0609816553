"""The command line's words for one training step, shared by ``estimate`` and ``trace``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import get_args

from .records import MethodId


def add_case_arguments(command: ArgumentParser) -> None:
    """Recipe, method, lengths and adapters of a case, with the defaults of ``records.Case``."""
    command.add_argument("--recipe", default="stock", choices=["stock", "lean"])
    command.add_argument("--method", default="qlora", choices=get_args(MethodId))
    command.add_argument("--seq-len", type=int, default=2048, help="tokens per sequence (default %(default)s)")
    command.add_argument("--micro-batch", type=int, default=1, help="sequences per step (default %(default)s)")
    command.add_argument("--rank", type=int, default=16, help="LoRA rank (default %(default)s)")
    command.add_argument("--targets", default="all-linear", help='"all-linear" or names with commas')
    command.add_argument("--no-checkpointing", action="store_true", help="keep all activations")

"""The smallest allocator cap under which a training step still finishes, by bisection."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch.utils.checkpoint import _CheckpointFrame

from .gauge import Gauge

MOST_TRIES = 7


def drop_checkpoints() -> None:
    """Let go of what checkpointing kept for the backward pass of a step that broke off.

    Gemma 4 hands keys and values from layer to layer in a dict, which the checkpoint keeps and whose tensors keep the
    checkpoint, through autograd, where Python's garbage collection cannot see it: the whole model would stay alive.
    """
    for item in gc.get_objects():
        if isinstance(item, _CheckpointFrame):
            item.recompute_fn = None  # type: ignore[assignment]


def search_min_cap(
    gauge: Gauge, run: Callable[[], None], low: int, high: int, total: int, resolution: int
) -> tuple[int, int] | None:
    """The smallest allocator cap, bytes, under which ``run`` finishes, and the distance to the largest that failed.

    Bisection between the allocated peak (below it nothing can work) and ``high``, what the allocator reserved without
    a cap, where it should work: that is tried only if nothing below does, and raised in steps of 2 % when it does not.
    The answer lies nearer to the low end (1.01 to 1.13 × allocated seen), so the first third is tried first. None when
    even ``total`` does not do. After ``MOST_TRIES`` attempts it stops at the distance it has reached.
    """
    tries = 0

    def works(cap: int) -> bool:
        nonlocal tries
        tries += 1
        failed_step = False
        gauge.set_cap(cap)
        try:
            run()
            return True
        except torch.OutOfMemoryError:
            failed_step = True
            return False
        finally:
            if failed_step:
                drop_checkpoints()
            gauge.set_cap(None)
            gauge.release()

    failed, shown = low, False
    while True:
        while high - failed > resolution and tries < MOST_TRIES:
            middle = failed + (high - failed) // 3
            if works(middle):
                high, shown = middle, True
            else:
                failed = middle
        if shown or works(high):
            return high, high - failed
        if high >= total or tries >= 2 * MOST_TRIES:
            return None
        failed, high = high, min(total, round(high * 1.02))

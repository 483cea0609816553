"""Measures cells: builds each base model once, runs every cell that shares it, and turns readings into results."""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from . import recipes, workload
from .caps import drop_checkpoints, search_min_cap
from .cells import Cell, read_config
from .gauge import (
    WARM_UP_STEPS,
    Gauge,
    PhaseHooks,
    Reading,
    extend,
)
from .record import Outcome, find_peak, make_result
from .result import STAGES
from .sharing import Turns
from .timing import time_steps

LIBRARY_TABLES_BYTES = 1 << 20  # bitsandbytes keeps its code tables (1 KiB seen) for the life of the process
INT8_TABLES_BYTES = 8 << 20  # and, of 8-bit layers, what it makes at their first use (3.4 MiB seen for 8 B)
COMPILE_TOKENS = 32
SLOW_STEP_SECONDS = 1.0  # a step this slow is timed while it is metered: hooks cost microseconds


class NotClean(RuntimeError):
    """Memory did not return to where it was, or the GPU reported an error: the process must be replaced.

    ``blamed``: the cell at hand has no result because of it.
    """

    def __init__(self, reason: str, blamed: bool = True) -> None:
        super().__init__(reason)
        self.blamed = blamed


class Session:
    """One process on one device. Counts what it measured, so that a result says how fresh the process was.

    ``turns`` and ``processes``: how it shares the GPU with how many others of the same campaign.
    """

    def __init__(self, device: torch.device, turns: Turns | None = None, processes: int = 1) -> None:
        self.device = device
        self.processes = processes
        self.gauge = Gauge(device, turns)
        self.compute_dtype = recipes.choose_compute_dtype(device)
        self.total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
        self.measured = 0
        self.before = {"build": 0.0, "memory": 0.0}  # seconds spent for the next cell before it began
        self.compiled: set[tuple[str, str, bool]] = set()

    # ------------------------------------------------------------------------------------------- models

    @contextmanager
    def base_model(self, cell: Cell, layers: int | None = None) -> Iterator[tuple[Any, int | None, int | None]]:
        """The base model of a cell, with (allocated, load peak). Leaves the device empty, or raises NotClean."""
        begun, waited = time.perf_counter(), self.gauge.turns.waited
        config = workload.read_model_config(read_config(cell.model)["config"], layers)
        before = self.gauge.release()
        model = workload.describe_weights(config, cell.weights, self.device, self.compute_dtype)
        if self.compute_dtype == torch.float16:
            workload.compute_in_fp16(model)
        with self.gauge.together():
            self.gauge.start()
            workload.materialise(model, self.device)
            self.gauge.mark("load")
        try:
            with ExitStack() as stack:
                with self.gauge.together():
                    prepared = stack.enter_context(recipes.prepared_base(model, cell.recipe, cell.weights))
                allocated = self.gauge.release()
                self.gauge.mark("load")
                self.before["build"] += time.perf_counter() - begun - (self.gauge.turns.waited - waited)
                yield prepared, allocated, self.gauge.peaks.get("load")
        finally:
            del model
            prepared = None
            try:
                after = self.gauge.release()
            except Exception as error:  # after a CUDA error every call fails
                raise NotClean(f"{type(error).__name__}: {error}".splitlines()[0][:300]) from error
            if before is not None and after is not None and after - before > LIBRARY_TABLES_BYTES:
                raise NotClean(f"{after - before} bytes stay allocated after {cell.model} was released", blamed=False)

    def measure_on(self, model: Any, allocated: int | None, load_peak: int | None, cell: Cell) -> Outcome:
        """Measure one cell on its base model; the base is left as it was, or NotClean is raised."""
        begin, waited = time.perf_counter(), self.gauge.turns.waited
        spent = dict.fromkeys(STAGES, 0.0)
        outcome = Outcome("failed", "not run")
        try:
            outcome = self._attempt(model, allocated, load_peak, cell, spent)
        except torch.OutOfMemoryError:
            outcome = Outcome("oom", "out of memory on the whole card")
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            if "out of memory" in str(error).lower() or "ALLOC_FAILED" in str(error):
                outcome = Outcome("oom", text)
            else:
                place = traceback.extract_tb(error.__traceback__)[-1]
                outcome = Outcome("failed", f"{text} ({place.name}, line {place.lineno})")
            if "CUDA error" in str(error) or "AcceleratorError" in type(error).__name__:
                raise NotClean(outcome.reason or "CUDA error") from None
        released = time.perf_counter()
        if outcome.status != "ok":
            drop_checkpoints()
        after = self.gauge.release()
        # bitsandbytes frees a few KiB of a quantised base at its first use: less than before is clean too.
        kept = INT8_TABLES_BYTES if cell.weights == "int8" else LIBRARY_TABLES_BYTES
        if after is not None and allocated is not None and after - allocated > kept:
            outcome.unclean = f"{after - allocated} bytes stay allocated after {cell}"
        outcome.wall_seconds = time.perf_counter() - begin
        spent |= {"release": time.perf_counter() - released, "waiting": self.gauge.turns.waited - waited}
        outcome.spent = spent | self.before
        self.before = dict.fromkeys(self.before, 0.0)
        return outcome

    def _attempt(
        self, base: Any, allocated: int | None, load_peak: int | None, cell: Cell, spent: dict[str, float]
    ) -> Outcome:
        gauge = self.gauge
        begun, waited = time.perf_counter(), gauge.turns.waited

        def ends(stage: str) -> None:
            """A stage ends here: note how long it took, less the waiting for other processes."""
            nonlocal begun, waited
            now = time.perf_counter()
            spent[stage] = max(0.0, now - begun - (gauge.turns.waited - waited))
            begun, waited = now, gauge.turns.waited

        reading = Reading(weights=allocated, load_peak=load_peak)
        forward = base.__dict__.get("forward")
        model = base
        hooks = None
        try:
            with gauge.together():
                model = recipes.attach_method(base, cell)
            gauge.release()
            if (now := gauge.allocated()) is not None and allocated is not None:
                reading.adapters = now - allocated
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            reading.trainable = sum(parameter.numel() for parameter in trained)
            batch = workload.make_batch(base.config.vocab_size, cell.micro_batch, cell.seq_len, self.device)
            accelerator = recipes.make_accelerator(self.device, self.compute_dtype)
            prepared, optimizer = accelerator.prepare(model, recipes.make_optimizer(model, cell.method))
            if cell.recipe == "lean" and gauge.turns.folder is not None:
                self._compile(accelerator, prepared, cell, base.config.vocab_size)
            hooks = PhaseHooks(model, gauge)

            def mark(phase: str) -> None:
                if phase == "backward":
                    gauge.mark("backward_rest")
                    if gauge.counts:
                        reading.gradients = sum(_bytes(p.grad) for p in trained if p.grad is not None)
                else:
                    gauge.mark(phase)

            ends("attach")
            gauge.start()
            for number in range(WARM_UP_STEPS):
                with gauge.together():
                    begin = time.perf_counter()
                    recipes.train_step(accelerator, prepared, optimizer, batch, mark)
                if number and self.processes == 1 and time.perf_counter() - begin > SLOW_STEP_SECONDS:
                    reading.step_seconds.append(time.perf_counter() - begin)
            reading.saved = hooks.saved
            reading.static = gauge.allocated()
            if gauge.counts:
                reading.optimizer = _state_bytes(optimizer)
                for phase, peak in gauge.peaks.items():
                    setattr(reading, phase, peak)
                reading.reserved = gauge.reserved
                reading.context = gauge.context_bytes()
            hooks.remove()
            ends("warm_up")
            time_steps(gauge, lambda: recipes.train_step(accelerator, prepared, optimizer, batch), reading)
            ends("timed")
            found = None
            if cell.min_cap and gauge.counts and self.total:
                found = self._search_cap(accelerator, prepared, optimizer, batch, reading)
                ends("min_cap")
            return Outcome("ok", reading=reading, min_cap=found)
        finally:
            if hooks is not None:
                hooks.remove()
            if "accelerator" in locals():
                accelerator.free_memory()
            recipes.detach_method(model, base, cell)
            if forward is None:
                base.__dict__.pop("forward", None)
            else:
                base.__dict__["forward"] = forward

    def _compile(self, accelerator: Any, model: Any, cell: Cell, vocabulary: int) -> None:
        """Have Triton compile the kernels of this model, on a few tokens and without a turn on the GPU.

        It takes seconds of the processor, in which the others shall go on; the GPU works for milliseconds.
        """
        kind = (cell.model, cell.method, cell.gradient_checkpointing)
        if kind in self.compiled:
            return
        self.compiled.add(kind)
        batch = workload.make_batch(vocabulary, 1, COMPILE_TOKENS, self.device)
        accelerator.backward(model(**batch).loss)
        model.zero_grad()
        self.gauge.release()

    def _search_cap(
        self, accelerator: Any, model: Any, optimizer: Any, batch: Any, reading: Reading
    ) -> tuple[int, int] | None:
        """Two steps per attempt, from an optimiser without states: the second is the first complete one."""
        peak = find_peak(reading)
        assert peak is not None and reading.reserved is not None and self.total is not None
        state = getattr(optimizer, "optimizer", optimizer).state

        def run() -> None:
            try:
                for _ in range(WARM_UP_STEPS):
                    with self.gauge.together():
                        recipes.train_step(accelerator, model, optimizer, batch)
            finally:
                state.clear()
                model.zero_grad()

        state.clear()
        self.gauge.release()
        resolution = max(8 << 20, round(peak * 0.004))
        return search_min_cap(self.gauge, run, peak, reading.reserved, self.gauge.cap or self.total, resolution)


def _bytes(tensor: torch.Tensor) -> int:
    size: int = tensor.numel() * tensor.element_size()
    return size


def _state_bytes(optimizer: Any) -> int:
    state = getattr(optimizer, "optimizer", optimizer).state
    tensors = [item for values in state.values() for item in values.values() if isinstance(item, torch.Tensor)]
    shared = {item.data_ptr(): _bytes(item) for item in tensors if item.is_cuda}  # bitsandbytes shares its tables
    total: int = sum(shared.values())
    return total


def measure_group(session: Session, cells: list[Cell]) -> Generator[tuple[Cell, dict[str, Any]], None, None]:
    """Results of cells that share model, recipe and weights, as they come; those measured at cut depth come last."""
    first = cells[0]
    config = workload.read_model_config(read_config(first.model)["config"])
    counts = workload.count_parameters(config)  # also sets the attention that describe_model chose

    def finish(cell: Cell, outcome: Outcome, reading: Reading | None, seconds: float | None) -> dict[str, Any]:
        data = make_result(session, cell, outcome, config, counts, reading, seconds)
        session.measured += 1
        return data

    whole = [cell for cell in cells if cell.depths is None]
    if whole:
        try:
            with session.base_model(first) as (model, allocated, load_peak):
                try:
                    for cell in whole:
                        outcome = session.measure_on(model, allocated, load_peak, cell)
                        seconds = outcome.reading.seconds if outcome.reading else None
                        yield cell, finish(cell, outcome, outcome.reading, seconds)
                        if outcome.unclean:
                            raise NotClean(outcome.unclean, blamed=False)
                finally:
                    model = None  # this frame must not keep the model alive while its release is checked
        except torch.OutOfMemoryError:
            for cell in whole:
                yield cell, finish(cell, Outcome("oom", "the weights do not fit on the card"), None, None)
    for depths in sorted({cell.depths for cell in cells if cell.depths is not None}):
        cut = [cell for cell in cells if cell.depths == depths]
        low: dict[str, Outcome] = {}
        for depth in depths:
            with session.base_model(first, depth) as (model, allocated, load_peak):
                try:
                    for cell in cut:
                        if depth == depths[1] and low[cell.key].status != "ok":
                            yield cell, finish(cell, low[cell.key], None, None)
                            continue
                        outcome = session.measure_on(model, allocated, load_peak, cell)
                        if depth == depths[0]:
                            low[cell.key] = outcome
                            if outcome.unclean:
                                raise NotClean(outcome.unclean)
                            continue
                        outcome.wall_seconds += low[cell.key].wall_seconds
                        a, b = low[cell.key].reading, outcome.reading
                        if a is None or b is None:
                            yield cell, finish(cell, outcome, None, None)
                            continue
                        reading, seconds = extend(a, b, depths, config.num_hidden_layers)
                        peak = find_peak(reading)
                        if peak is not None and session.total is not None and peak > session.total:
                            outcome.status, outcome.reason = "oom", f"needs {peak} bytes, extended from cut depths"
                            yield cell, finish(cell, outcome, None, None)
                        else:
                            yield cell, finish(cell, outcome, reading, seconds)
                        if outcome.unclean:
                            raise NotClean(outcome.unclean, blamed=False)
                finally:
                    model = None

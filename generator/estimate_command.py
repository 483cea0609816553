"""``python -m generator estimate``: one case as a table or JSON, or a JSON Lines file of cases."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .architecture import UnknownArchitecture, describe
from .case_arguments import add_case_arguments
from .coefficients import CONTEXT_BYTES, build_coefficients, gpu_figures, read_json, shape_key, traced_shape
from .estimate import NotEstimable, set_id
from .estimate_answer import Estimator, judge
from .estimate_closed import make_sets
from .estimate_format import to_json
from .records import GIB, Case, Estimate, GpuEntry, HubFacts, Range, Run
from .stand_in import stand_in
from .traced import FOLDER, read_traced

if TYPE_CHECKING:
    from rich.console import Console

CONFIG_ID = "local/config"
QUANTITIES = ("peak_allocated_bytes", "peak_reserved_bytes", "min_cap_bytes", "needed_bytes", "tokens_per_second")


def build_estimator(
    facts: Iterable[HubFacts],
    gpus: Iterable[GpuEntry],
    runs: Sequence[Run] = (),
    catalog: Path | None = None,
    traced: Mapping[str, Mapping[str, Any]] | None = None,
) -> Estimator:
    """The estimator of a checkout; ``catalog`` is its ``catalog/`` folder, which holds calibration.json and the traced
    coefficients (unless those are given)."""
    calibration = read_json(catalog / "calibration.json") if catalog else {}
    facts = list(facts)
    if traced is None and catalog:
        traced = read_traced(catalog / FOLDER)[0]
    table, shapes = build_coefficients(facts, gpus, calibration, traced)
    estimator = Estimator(table, runs, shapes, calibration)
    for item in facts:
        if item.hub_id not in shapes and item.config:
            try:
                describe(item.config)
            except UnknownArchitecture as error:
                estimator.unknown[item.hub_id] = str(error)
    return estimator


def publish_coefficients(estimator: Estimator) -> dict[str, Any]:
    """Content of ``/api/v1/coefficients.json``."""
    return to_json(estimator.table)


def flatten(answer: Estimate) -> dict[str, Any]:
    """The answer as one flat object: ``x``, ``x_low``, ``x_high`` for every quantity."""
    found: dict[str, Any] = {}
    for name, value in answer:
        if isinstance(value, Range):
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            found[name] = value
            if name in QUANTITIES:
                found |= {f"{name}_low": value, f"{name}_high": value}
    for name in [key for key in found if "_bytes" in key and isinstance(found[key], float)]:
        found[name] = round(found[name])
    found["breakdown_bytes"] = {name: round(value) for name, value in answer.breakdown_bytes.items()}
    return found


class CaseReader:
    """Turns case objects, as users write them, into answers."""

    def __init__(
        self,
        estimator: Estimator,
        gpus: Mapping[str, GpuEntry],
        models: Mapping[str, str],
        traced: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.estimator, self.gpus, self.models, self.traced = estimator, gpus, models, traced or {}

    def answer(self, values: Any) -> Estimate:
        """The estimate. Raises ValueError with one line that names the field and the reason."""
        return self.answer_training(values)[0]

    def answer_training(self, values: Any) -> tuple[Estimate, dict[str, float]]:
        """The estimate, and what a training of ``samples`` and ``epochs`` takes where those are given.

        Raises ValueError with one line that names the field and the reason.
        """
        if not isinstance(values, dict):
            raise ValueError(f"case: expected an object, found {values!r}")
        values = dict(values)
        gpu_id, count = values.pop("gpu", None), values.pop("gpu_count", 1)
        hub_id, config = values.pop("model", None), values.pop("config", None)
        samples, epochs = values.pop("samples", None), values.pop("epochs", 1)
        if (hub_id is None) == (config is None):
            raise ValueError("model: give either model or config")
        if gpu_id is not None and gpu_id not in self.gpus:
            raise ValueError(f"gpu: unknown GPU {gpu_id!r} (ids are the file names in catalog/gpus)")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"gpu_count: expected a whole number, 1 or more, found {count!r}")
        for name, number in (("samples", samples), ("epochs", epochs)):
            if number is not None and (not isinstance(number, int | float) or number <= 0):
                raise ValueError(f"{name}: expected a number above 0, found {number!r}")
        if isinstance(values.get("lora_targets"), list):
            values["lora_targets"] = tuple(values["lora_targets"])
        try:
            case = Case(**values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        gpu = self.gpus[gpu_id] if gpu_id else None
        if config is None:
            found = self.estimator.estimate(str(self.models.get(str(hub_id), hub_id)), case, gpu, count)
        elif not isinstance(config, dict):
            raise ValueError("config: expected a config.json object")
        else:
            found = self.answer_config(config, case, gpu, count)
        return found, train(found, case, gpu, count, samples, epochs) if samples else {}

    def answer_config(self, config: dict[str, Any], case: Case, gpu: GpuEntry | None, count: int) -> Estimate:
        """A configuration without entry: as the catalog has its shape, or traced now where torch is installed, else in
        closed form. Raises ValueError (UnknownArchitecture, NotTraceable) where none of them knows it."""
        calibration = self.estimator.calibration
        try:
            shape = describe(config)
            key = shape_key(traced_shape(shape))
        except UnknownArchitecture:
            if not can_trace():
                raise
            return trace_estimate(config, case, gpu)
        traced = self.traced.get(key)
        wanted = set_id(case.recipe, case.method, case.gradient_checkpointing)
        if (traced is None or wanted not in traced["sets"]) and can_trace():
            from .trace_distil import distil_set

            entry = next(entry for entry in make_sets() if entry.id == wanted)
            try:
                traced = {"sets": {wanted: distil_set(stand_in(shape) or config, traced_shape(shape), entry)}}
            except ValueError:
                traced = None
        facts = [HubFacts(hub_id=CONFIG_ID, config=config)]
        table, shapes = build_coefficients(facts, self.gpus.values(), calibration, {key: traced} if traced else {})
        return Estimator(table, (), shapes).estimate(CONFIG_ID, case, gpu, count)


def can_trace() -> bool:
    """Whether the libraries of ``pip install '.[gpu]'`` are there."""
    return all(find_spec(name) is not None for name in ("torch", "transformers", "peft", "accelerate"))


def trace_estimate(config: dict[str, Any], case: Case, gpu: GpuEntry | None) -> Estimate:
    """Memory of a model whose shape only transformers knows; its speed is not known."""
    from .trace import trace

    found = trace(config, case)
    bands = make_sets()[0].bands["estimated"]

    def spread(name: str, value: float) -> Range:
        return Range(value=value, low=value * bands[name][0], high=value * bands[name][1])

    cap = spread("cap", found["min_cap_bytes"])
    figures = gpu_figures(gpu) if gpu else None
    context = figures.context_bytes if figures else CONTEXT_BYTES
    needed = Range(value=cap.value + context, low=cap.low + context, high=cap.high + context)
    parts = {name: float(size) for name, size in found["parts_bytes"].items()}
    parts["gradients"] = 0.0 if found["peak_phase"] in ("forward", "loss") else parts["gradients"]
    rest = found["peak_allocated_bytes"] - sum(parts.values())
    return Estimate(
        basis="estimated", basis_note="traced modeling code of transformers; its speed is not known",
        peak_allocated_bytes=spread("allocated", found["peak_allocated_bytes"]),
        peak_reserved_bytes=spread("reserved", found["peak_reserved_bytes"]), min_cap_bytes=cap, needed_bytes=needed,
        load_peak_bytes=None, breakdown_bytes={**parts, "activations": rest, "logits": 0.0, "other": 0.0},
        tokens_per_second=None, mfu=None, fits=judge(needed, figures.usable_bytes) if figures else None,
        largest_seq_len=None, largest_micro_batch=None,
    )  # fmt: skip


def train(
    answer: Estimate, case: Case, gpu: GpuEntry | None, count: int, samples: float, epochs: float
) -> dict[str, float]:
    """Seconds, and US dollars where the card's rent is known, of ``epochs`` over ``samples`` of the case's length."""
    rate = answer.tokens_per_second
    if rate is None:
        return {}
    tokens = samples * case.seq_len * epochs
    found = {"training_tokens": float(tokens)}
    for end, value in (("", rate.value), ("_low", rate.high), ("_high", rate.low)):
        found[f"training_seconds{end}"] = round(tokens / value, 1)
        if gpu is not None and gpu.hourly_usd:
            found[f"training_usd{end}"] = round(tokens / value / 3600 * gpu.hourly_usd * count, 2)
    return found


def answer_cases(reader: CaseReader, lines: Iterable[str]) -> tuple[list[dict[str, Any]], int]:
    """One answer, or ``{"error": …}``, per non-empty line in order, and the exit code (1 if any failed)."""
    found, code = [], 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            answer, training = reader.answer_training(json.loads(line))
            found.append(flatten(answer) | training)
        except json.JSONDecodeError as error:
            found.append({"error": f"line {number}, column {error.colno}: not JSON: {error.msg}"})
            code = 1
        except (ValueError, NotEstimable, UnknownArchitecture) as error:
            found.append({"error": str(error)})
            code = 1
    return found, code


def print_answer(title: str, answer: Estimate, gpu: GpuEntry | None, console: Console) -> None:
    """The readable form."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_edge=False)
    for name in ("", "GiB", "90 % interval"):
        table.add_column(name, justify="left" if not name else "right")
    for label, name in (
        ("peak allocated", "peak_allocated_bytes"), ("peak reserved", "peak_reserved_bytes"),
        ("smallest allocator cap", "min_cap_bytes"), ("needed, with CUDA context", "needed_bytes"),
    ):  # fmt: skip
        value: Range = getattr(answer, name)
        table.add_row(label, f"{value.value / GIB:.2f}", f"{value.low / GIB:.2f} – {value.high / GIB:.2f}")
    table.add_section()
    for part, size in answer.breakdown_bytes.items():
        if size:
            table.add_row(part, f"{size / GIB:.2f}", "")
    console.print(table)
    if gpu is not None:
        console.print(f"fits {gpu.name}: [bold]{answer.fits}[/bold]")
        console.print(f"largest seq_len {answer.largest_seq_len}, largest micro_batch {answer.largest_micro_batch}")
    if answer.tokens_per_second:
        rate = answer.tokens_per_second
        mfu = f", MFU {answer.mfu:.0%}" if answer.mfu else ""
        console.print(f"{rate.value:,.0f} tokens/s ({rate.low:,.0f} – {rate.high:,.0f}){mfu}")
        if answer.limited_by == "processor" and answer.basis != "measured":
            console.print("the GPU would wait for the processor to launch kernels: a larger step uses it better")
    console.print(f"basis: {answer.basis} ({answer.basis_note})")


def print_training(training: Mapping[str, float], console: Console) -> None:
    """Duration and rent of a training, if asked for."""
    if not training:
        return
    tokens = training["training_tokens"]
    hours, low, high = (training[f"training_seconds{end}"] / 3600 for end in ("", "_low", "_high"))
    cost = ""
    if "training_usd" in training:
        least, most = training["training_usd_low"], training["training_usd_high"]
        cost = f", {training['training_usd']:,.2f} US dollars of rent ({least:,.2f} – {most:,.2f})"
    console.print(f"training on {tokens:,.0f} tokens: {hours:.2f} h ({low:.2f} – {high:.2f}){cost}")


def run_estimate(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .dataset import load_dataset

    dataset, problems = load_dataset(arguments.root)
    for problem in problems:
        print(problem, file=sys.stderr)
    gpus = dataset.catalog.gpus
    estimator = build_estimator(dataset.hub.values(), gpus.values(), dataset.runs, arguments.root / "catalog")
    models = {entry.id: entry.hub_id for entry in dataset.catalog.models.values()}
    reader = CaseReader(estimator, gpus, models, read_traced(arguments.root / "catalog" / FOLDER)[0])
    if arguments.cases:
        try:
            text = sys.stdin.read() if arguments.cases == "-" else Path(arguments.cases).read_text(encoding="utf-8")
        except OSError as error:
            print(f"{arguments.cases}: {error.strerror}", file=sys.stderr)
            return 1
        answers, code = answer_cases(reader, text.splitlines())
        for line in answers:
            print(json.dumps(line, ensure_ascii=False))
        return code
    values: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("recipe", "method", "micro_batch", "seq_len", "gpu", "gpu_count")
    }  # fmt: skip
    values["gradient_checkpointing"] = not arguments.no_checkpointing
    values["lora_rank"] = arguments.rank
    if arguments.processor_pace is not None:
        values["processor_pace"] = arguments.processor_pace
    if arguments.samples:
        values |= {"samples": arguments.samples, "epochs": arguments.epochs}
    values["lora_targets"] = arguments.targets if arguments.targets == "all-linear" else arguments.targets.split(",")
    try:
        if arguments.config:
            values["config"] = json.loads(Path(arguments.config).read_text(encoding="utf-8"))
        else:
            values["model"] = arguments.model
        answer, training = reader.answer_training(values)
    except json.JSONDecodeError as error:
        print(f"{arguments.config}:{error.lineno}:{error.colno}: not JSON: {error.msg}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{arguments.config}: {error.strerror}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(flatten(answer) | training, ensure_ascii=False, indent=1))
    else:
        title = f"{arguments.model or arguments.config} · {arguments.recipe} · {arguments.method}"
        print_answer(title, answer, gpus.get(arguments.gpu), Console())
        print_training(training, Console())
    return 0


def register(commands: Any) -> None:
    """Add ``estimate`` to the command line."""
    command = commands.add_parser("estimate", help="memory and speed of a fine-tuning set-up")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="Hub id, or the catalog's id")
    what.add_argument("--config", metavar="FILE", help="a config.json instead of a catalog model")
    what.add_argument("--cases", metavar="FILE", help="JSON Lines of cases, '-' for standard input")
    add_case_arguments(command)
    command.add_argument(
        "--processor-pace", type=float, metavar="N", help="of this host, as `python -m measurements pace` prints it"
    )
    command.add_argument("--gpu", help="id of a card in catalog/gpus")
    command.add_argument("--gpu-count", type=int, default=1, help="cards, with FSDP full sharding")
    command.add_argument("--samples", type=int, help="samples of --seq-len tokens: duration and rent of a training")
    command.add_argument("--epochs", type=float, default=1, help="with --samples (default %(default)s)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run_estimate)

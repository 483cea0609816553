"""``python -m benchmarks.estimator_speed``: cells per second of the vectorised estimate, as one JSON object."""

import json
import platform
import time
from pathlib import Path

from generator.dataset import load_dataset
from generator.estimate_command import build_estimator
from generator.records import Case

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    dataset, _ = load_dataset(ROOT)
    gpus = dataset.catalog.gpus
    begin = time.perf_counter()
    estimator = build_estimator(dataset.hub.values(), gpus.values(), dataset.runs, ROOT / "catalog")
    built = time.perf_counter() - begin
    cases = [
        Case(method=method, seq_len=seq_len, micro_batch=micro_batch, gradient_checkpointing=checkpointing)  # type: ignore[arg-type]
        for method in ("full", "lora", "qlora")
        for seq_len in (512, 1024, 2048, 4096, 8192)
        for micro_batch in (1, 4)
        for checkpointing in (True, False)
    ]
    models, cards = list(estimator.table.models), list(estimator.table.gpus)
    begin = time.perf_counter()
    estimator.matrix(models, cases)
    memory = time.perf_counter() - begin
    begin = time.perf_counter()
    estimator.matrix(models, cases, cards)
    seconds = time.perf_counter() - begin
    count = len(models) * len(cases) * len(cards)
    result = {
        "models": len(models),
        "cases": len(cases),
        "gpus": len(cards),
        "memory_cells_per_second": round(len(models) * len(cases) / memory),
        "speed_cells_per_second": round(count / seconds),
        "matrix_seconds": round(seconds, 3),
        "table_seconds": round(built, 3),
        "python": platform.python_version(),
    }
    print(json.dumps(result, indent=1))

"""``python -m benchmarks.live_reload [--rounds N]``: seconds from saving a YAML to both languages showing it."""

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from tests.test_serve import Serving

ROOT = Path(__file__).parents[1]
EDITS = (
    ("catalog/models/qwen3-8b.yaml", "name: Qwen3-8B", "/models/qwen3-8b/"),
    ("catalog/gpus/rtx-4090.yaml", "name: RTX 4090", "/gpus/rtx-4090/"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "guide"
        for folder in ("catalog", "docs", "generator", "measurements"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "mkdocs.yml", root)
        begin = time.perf_counter()
        serving = Serving(root)
        serving.wait("/en/models/qwen3-8b/", "Qwen3-8B")
        first = time.perf_counter() - begin
        seconds: dict[str, list[float]] = {}
        for number in range(rounds):
            for file, text, url in EDITS:
                path = root / file
                original = path.read_text(encoding="utf-8")
                begin = time.perf_counter()
                path.write_text(original.replace(text, f"{text} no. {number}", 1), encoding="utf-8")
                serving.wait(url, f"no. {number}")
                serving.wait(f"/en{url}", f"no. {number}")
                seconds.setdefault(file, []).append(time.perf_counter() - begin)
                path.write_text(original, encoding="utf-8")
                time.sleep(12)
        serving.process.terminate()
        serving.process.wait(timeout=20)
    result = {
        "first_build_seconds": round(first, 1),
        "saved_to_shown_seconds": {
            file: {"median": round(statistics.median(values), 2), "worst": round(max(values), 2)}
            for file, values in seconds.items()
        },
        "rounds": rounds,
        "python": platform.python_version(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

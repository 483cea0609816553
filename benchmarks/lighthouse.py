"""``python -m benchmarks.lighthouse --lighthouse PATH [--site FOLDER] [--rounds N]``: Lighthouse on three pages.

Lighthouse is an npm package and no part of this repository: ``npm install --prefix DIR lighthouse`` puts it
at ``DIR/node_modules/.bin/lighthouse``. Its default emulates a mid-range phone on a slow line. Of every
figure the median of the rounds counts, because whatever else runs on the machine only adds time.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from .serving import served_site

PAGES = {"home": "/", "model": "/models/qwen3-8b/", "explorer": "/data/cells/"}
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
FIGURES = (
    "first-contentful-paint",
    "largest-contentful-paint",
    "speed-index",
    "total-blocking-time",
    "cumulative-layout-shift",
)


def run_lighthouse(program: str, address: str) -> dict[str, Any]:
    """Lighthouse's report of one page. Raises CalledProcessError when it fails."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        flags = [
            "--quiet",
            "--output=json",
            f"--output-path={report.name}",
            "--chrome-flags=--headless=new --no-sandbox",
        ]
        environment = {"CHROME_PATH": shutil.which("chromium") or "", **os.environ}
        subprocess.run([program, address, *flags], env=environment, check=True, capture_output=True)
        return json.loads(Path(report.name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def median_of(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores from 0 to 100 and figures in Lighthouse's units, each the median of the reports."""
    scores = {
        name: round(100 * statistics.median(report["categories"][name]["score"] for report in reports))
        for name in CATEGORIES
    }
    figures = {
        name: round(statistics.median(report["audits"][name]["numericValue"] for report in reports), 3)
        for name in FIGURES
    }
    runs = [round(100 * report["categories"]["performance"]["score"]) for report in reports]
    return {**scores, "performance_runs": runs, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lighthouse", default="lighthouse", help="the program")
    parser.add_argument("--site", type=Path, help="a finished build; without it the site is built first")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with served_site(arguments.site) as address:
        reports = {
            name: [run_lighthouse(arguments.lighthouse, address + path) for _ in range(arguments.rounds)]
            for name, path in PAGES.items()
        }
    first = reports["home"][0]
    result = {
        "lighthouse": first["lighthouseVersion"],
        "browser": first["environment"]["hostUserAgent"].partition("HeadlessChrome/")[2].split(" ")[0],
        "form_factor": first["configSettings"]["formFactor"],
        "benchmark_index": round(statistics.median(r["environment"]["benchmarkIndex"] for r in reports["home"])),
        "date": date.today().isoformat(),
        "rounds": arguments.rounds,
        "pages": {name: {"path": PAGES[name], **median_of(found)} for name, found in reports.items()},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

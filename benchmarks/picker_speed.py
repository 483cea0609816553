"""``python -m benchmarks.picker_speed [--site FOLDER]``: from an input of the reader to the new result, in Chromium.

``work_ms`` is everything between the input event and a list that is laid out and ready to paint: all models priced and
ranked, rows built, style and layout done. It has to fit one frame (16.7 ms). ``painted_ms`` also waits for the next
frame and its painting, so it cannot fall below the time until the screen's next refresh. Medians over all inputs.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path

from playwright.sync_api import sync_playwright

from .serving import served_site

INPUTS = [
    ("t", ["code", "maths", "translation", "tool-calling", "customer-service-zh"]),
    ("g", ["RTX 3060 12 GB", "2 × A100 SXM 80 GB", "16 GB", "T4", "RTX 4090"]),
    ("m", ["qlora", "lora", "full", "auto"]),
    ("s", ["512", "2048", "8192", ""]),
    ("b", ["0", "4", "1"]),
    ("o", ["memory", "speed", "rank"]),
]
MEASURE = """async ([name, value]) => {
  const field = document.querySelector("#fa-form").elements[name];
  field.value = value;
  const begin = performance.now();
  field.dispatchEvent(new Event("change", { bubbles: true }));
  document.querySelector("[data-results]").getBoundingClientRect();
  const work = performance.now() - begin;
  await new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(null);
  }));
  return [work, performance.now() - begin];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--site", type=Path, help="a finished build; without it the site is built first")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    work, painted = [], []
    with served_site(arguments.site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{address}/")
        page.wait_for_selector("[data-picker][data-ready]")
        for number in range(arguments.rounds + 1):
            for name, values in INPUTS:
                for value in values:
                    times = page.evaluate(MEASURE, [name, value])
                    if number:  # the first round lets the browser compile
                        work.append(times[0])
                        painted.append(times[1])
        models = page.evaluate("fetch('api/v1/picker.json').then((a) => a.json()).then((d) => d.models.length)")
        version = browser.version
        browser.close()
    result = {
        "models": models,
        "inputs": len(work),
        "work_ms": round(statistics.median(work), 1),
        "work_ms_p95": round(statistics.quantiles(work, n=20)[-1], 1),
        "painted_ms": round(statistics.median(painted), 1),
        "browser": f"Chromium {version}, headless",
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

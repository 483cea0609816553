"""``python -m benchmarks``: every benchmark that needs nothing beyond the test environment, one after the other."""

import subprocess
import sys

NAMES = ("estimator_speed", "hub_refresh", "site_build", "live_reload", "picker_speed")

if __name__ == "__main__":
    for name in NAMES:
        print(f"# {name}", flush=True)
        if code := subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            sys.exit(code)

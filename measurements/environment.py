"""What stood around a measurement: device, driver, versions, commit, date."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .recipes import hash_recipes
from .result import identify_gpu


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """The commit of this code: from git, or from a file GIT_COMMIT beside the package where it travels without git."""
    note = Path(__file__).parent / "GIT_COMMIT"
    if note.exists():
        return note.read_text(encoding="utf-8").strip() or None
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlSystemGetDriverVersion()
        return found.decode() if isinstance(found, bytes) else str(found)
    except Exception:
        return None  # no NVIDIA driver, or no nvidia-ml-py


def describe_environment(device: torch.device) -> dict[str, Any]:
    """The environment part of a result, but for what differs from cell to cell."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else f"cpu {platform.machine()}"
    return {
        "gpu_id": identify_gpu(name),
        "gpu_name": name if on_gpu else None,
        "gpu_total_bytes": torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        "driver": _driver() if on_gpu else None,
        "cuda": (torch.version.cuda or torch.version.hip) if on_gpu else None,
        "torch": torch.__version__,
        "transformers": _version("transformers"),
        "peft": _version("peft"),
        "accelerate": _version("accelerate"),
        "bitsandbytes": _version("bitsandbytes"),
        "liger_kernel": _version("liger-kernel"),
        "python": platform.python_version(),
        "git_commit": _commit(),
        "recipe_hash": hash_recipes(),
        "date": datetime.now(UTC).date().isoformat(),
    }

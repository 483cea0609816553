"""Which architectures transformers can load without code from a repository: a committed list, so that nobody needs it.

``python -m generator.hub.architectures > generator/hub/transformers_types.txt`` makes the list again from the installed
transformers, the only thing here that imports it.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("transformers_types.txt")


@cache
def known_types() -> frozenset[str]:
    """``model_type`` values of language models (with or without a vision tower) that transformers loads itself."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def list_installed() -> str:
    """The content of the list for the installed transformers. Raises ``ImportError`` without it."""
    import importlib

    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    version = importlib.import_module("transformers").__version__
    names = {*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
    head = (
        f"# model_type values that transformers {version} loads as causal language or image-text-to-text models.\n"
        "# python -m generator.hub.architectures prints this file for the installed transformers.\n"
    )
    return head + "".join(f"{name}\n" for name in sorted(names))


if __name__ == "__main__":
    sys.stdout.write(list_installed())

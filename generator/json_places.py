"""Where a value stands in a JSON text, so that a problem can name its line and column."""

from __future__ import annotations

import json
from json.decoder import scanstring  # type: ignore[attr-defined]

_SPACE = " \t\r\n"


def place_in(text: str, path: tuple[int | str, ...]) -> tuple[int, int]:
    """Line and column of the value at ``path`` in valid JSON ``text``, or of its nearest existing parent."""
    at = _skip(text, 0)
    for part in path:
        inner = _child(text, at, part)
        if inner is None:
            break
        at = inner
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def _child(text: str, at: int, part: int | str) -> int | None:
    decoder = json.JSONDecoder()
    opener = text[at]
    if opener not in "{[":
        return None
    at = _skip(text, at + 1)
    index = 0
    while text[at] not in "}]":
        name: int | str = index
        if opener == "{":
            name, at = scanstring(text, at + 1)
            at = _skip(text, _skip(text, at) + 1)
        if name == part:
            return at
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
        index += 1
    return None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at

"""Commented YAML templates for contributors, made from the records so that they cannot drift from the schema.

``python -m generator.catalog_template models`` prints one; the committed copies are
``catalog/<folder>/_template.yaml``.
"""

from __future__ import annotations

import sys
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from generator.catalog import RECORDS
from generator.records import Record, Text


def render_template(folder: str) -> str:
    """A commented starting point for one entry of ``folder``, made from its record.

    Required fields carry a placeholder; optional ones stand commented out with their default.

    Raises:
        KeyError: there is no such folder.
    """
    record = RECORDS[folder]
    lines = [
        f"# Template for catalog/{folder}/<id>.yaml: copy it, name the copy after the new id, replace every value,",
        "# remove the comments and the fields you know nothing of. Unknown is left out, never guessed.",
        f"# Made by: python -m generator.catalog_template {folder}",
    ]
    for name, info in record.model_fields.items():
        if name == "id":
            continue
        required = info.is_required()
        lines += ["", f"# {'required' if required else 'optional'}: {_describe(info)}"]
        body = yaml.safe_dump(
            {name: _placeholder(info) if required else info.get_default(call_default_factory=True)},
            allow_unicode=True,
            sort_keys=False,
            width=110,
        ).rstrip()
        lines += [line if required else f"# {line}" for line in body.splitlines()]
    return "\n".join(lines) + "\n"


def _describe(info: FieldInfo) -> str:
    kind = _kind(info.annotation)
    return f"{info.description} ({kind})" if info.description else kind


def _kind(annotation: Any) -> str:
    """The type in words for people who write YAML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(a) for a in arguments if a is not type(None))
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if annotation is Text:
        return "text in zh and en"
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return "mapping of " + ", ".join(annotation.model_fields)
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(annotation, "mapping")


def _placeholder(info: FieldInfo) -> Any:
    if info.examples:
        return info.examples[0]
    annotation: Any = info.annotation
    if get_origin(annotation) is Literal:
        return get_args(annotation)[0]
    if get_origin(annotation) is list:
        return []
    if annotation is Text:
        return {"zh": "待写", "en": "to be written"}
    return {str: "to-be-written", int: 1, float: 1.0, bool: False}.get(annotation, {})


def _main(arguments: list[str]) -> int:
    if len(arguments) == 1 and arguments[0] in RECORDS:
        sys.stdout.write(render_template(arguments[0]))
        return 0
    sys.stderr.write(f"usage: python -m generator.catalog_template {{{','.join(RECORDS)}}}\n")
    return 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

"""The direction of imports: a module may import only what stands to its left (see ALLOWED)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Ranks grow to the right; a module imports only modules of a lower rank. Modules of one rank do not know each other.
RANK = {
    "records": 0,
    "json_places": 0,
    "wording": 0,
    "catalog": 1,
    "hub": 1,
    "runs": 1,
    "architecture": 1,
    "evidence": 1,
    "curves": 2,
    "ranking": 2,
    "dataset": 3,
}
TORCH_ALLOWED = ("trace",)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ".".join(path.relative_to(ROOT).with_suffix("").parts[: -node.level])
                base = f"{package}.{base}".rstrip(".")
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


GENERATOR = sorted((ROOT / "generator").rglob("*.py"))
MEASUREMENTS = sorted((ROOT / "measurements").rglob("*.py"))


@pytest.mark.parametrize("path", GENERATOR, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_generator_imports_only_to_its_left(path: Path) -> None:
    imported = imports_of(path)
    assert not any(name.split(".")[0] == "measurements" for name in imported)
    own = RANK.get(path.stem)
    if own is not None and path.parent.name == "generator":
        for name in imported:
            parts = name.split(".")
            if parts[0] == "generator" and len(parts) > 1 and parts[1] in RANK:
                assert RANK[parts[1]] < own, f"{path.name} may not import {name}"
            if parts[0] == "generator" and len(parts) > 1 and parts[1] not in RANK:
                pytest.fail(f"{path.name} (rank {own}) may not import {name}")


@pytest.mark.parametrize("path", GENERATOR, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_site_build_needs_no_torch(path: Path) -> None:
    if path.stem.startswith(TORCH_ALLOWED) or path.parent.name.startswith(TORCH_ALLOWED):
        return
    assert not {name.split(".")[0] for name in imports_of(path)} & {"torch", "transformers", "peft", "accelerate"}


@pytest.mark.parametrize("path", MEASUREMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_harness_runs_alone(path: Path) -> None:
    assert not any(name.split(".")[0] == "generator" for name in imports_of(path))


@pytest.mark.parametrize("path", GENERATOR, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_only_the_hub_module_reaches_the_network(path: Path) -> None:
    if path.stem.startswith("hub") or path.parent.name.startswith("hub"):
        return
    assert not {name.split(".")[0] for name in imports_of(path)} & {
        "httpx",
        "httpx2",
        "huggingface_hub",
        "requests",
        "urllib3",
    }


def test_what_both_packages_must_know_is_the_same_in_both() -> None:
    """Neither may import the other, so what a result means is written twice."""
    from generator import records
    from measurements import summary, timing

    assert records.PROBE_SECONDS == timing.REFERENCE_SECONDS
    assert (records.GPU_BOUND, records.LAUNCH_BOUND) == (summary.GPU_BOUND, summary.LAUNCH_BOUND)

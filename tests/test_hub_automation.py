"""The bot's pull request: one open at a time, and nothing in it but catalog/hub."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GH = """#!/bin/sh
echo "$*" >> "$GH_LOG"
if [ "$2" = list ]; then cat "$GH_OPEN" 2>/dev/null; fi
true
"""


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_only_the_snapshot_is_proposed_and_only_an_open_request_is_updated(tmp_path: Path) -> None:
    for name in ("work/catalog/hub", "bin"):
        (tmp_path / name).mkdir(parents=True)
    work, log, opened = tmp_path / "work", tmp_path / "log", tmp_path / "open"
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    for name in ("catalog/hub/a.json", "catalog/hub/gone.json", "other"):
        (work / name).write_text("1")
    (tmp_path / "report.md").write_text("what changed")
    git(tmp_path, "init", "-q", "--bare", "origin")
    git(work, "init", "-q", "-b", "main")
    git(work, "add", ".")
    git(work, "commit", "-qm", "start")
    git(work, "remote", "add", "origin", str(tmp_path / "origin"))

    def propose() -> list[str]:
        log.write_text("")
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "GH_LOG": str(log), "GH_OPEN": str(opened)}
        command = ["sh", str(ROOT / ".github" / "propose.sh"), "hub-refresh", "Refresh", str(tmp_path / "report.md")]
        subprocess.run(command, cwd=work, env=environment, check=True, capture_output=True)
        return [" ".join(line.split()[:2]) for line in log.read_text().splitlines()]

    assert propose() == [], "nothing changed, nothing proposed"
    (work / "catalog/hub/a.json").write_text("2")
    (work / "catalog/hub/gone.json").unlink()
    (work / "other").write_text("2")
    assert propose() == ["pr list", "pr create"]
    changed = git(work, "diff", "--name-only", "main", "origin/hub-refresh").split()
    assert changed == ["catalog/hub/a.json", "catalog/hub/gone.json"]
    opened.write_text("7")
    (work / "catalog/hub/a.json").write_text("3")
    assert propose() == ["pr list", "pr edit"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_workflows_run_nothing_of_a_stranger_with_a_token(path: Path) -> None:
    flow = yaml.safe_load(path.read_text(encoding="utf-8"))
    triggers = flow[True]  # YAML 1.1 reads the key `on` as true
    assert flow["permissions"] and "pull_request_target" not in triggers
    if "pull_request" in triggers:
        assert flow["permissions"] == {"contents": "read"} and "secrets." not in path.read_text(encoding="utf-8")
    if "workflow_run" in triggers:
        assert not any("checkout" in step.get("uses", "") for job in flow["jobs"].values() for step in job["steps"])


def workflow(name: str) -> tuple[dict[str, object], str]:
    """Triggers and all commands of a workflow."""
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
    return flow[True], "\n".join(str(step.get("run", "")) for job in flow["jobs"].values() for step in job["steps"])


def test_the_snapshot_is_refreshed_daily_and_proposed() -> None:
    triggers, commands = workflow("refresh")
    (cron,) = triggers["schedule"]  # type: ignore[misc]
    assert cron["cron"].split()[2:] == ["*", "*", "*"]
    assert "generator refresh" in commands and "sh .github/propose.sh hub-refresh" in commands
    assert "git push" not in commands, "only propose.sh pushes, and only catalog/hub"


def test_new_models_are_searched_weekly_and_written_into_one_issue() -> None:
    triggers, commands = workflow("discover")
    (cron,) = triggers["schedule"]  # type: ignore[misc]
    assert cron["cron"].split()[2:4] == ["*", "*"] and cron["cron"].split()[4].isdigit()
    assert "refresh --discover" in commands and "gh issue create" in commands and "gh issue edit" in commands


def test_a_merge_is_deployed_and_a_measurement_is_commented() -> None:
    assert workflow("deploy")[0]["push"] == {"branches": ["main"]}
    assert "make build" in workflow("deploy")[1]
    triggers, commands = workflow("measurement-pr")
    assert triggers["pull_request"] == {"paths": ["measurements/results/**"]}
    assert "generator check --github" in commands and "generator changes" in commands
    assert "gh pr comment" in workflow("measurement-comment")[1]

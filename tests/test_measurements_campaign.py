"""Several workers on one plan: kills, deaths, cells without an end, memory that is shared. CPU only, tiny models."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from measurements import __main__ as command
from measurements import measure, oversight
from measurements.__main__ import count_gpus, main
from measurements.cells import make_cell
from measurements.result import read_all
from measurements.sharing import Claims, Deaths, Tickets, Turns
from measurements.worklist import Clock, Worklist

TINY = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
ROOT = Path(__file__).parent.parent


@pytest.fixture
def campaign(tmp_path: Path) -> list[str]:
    """The command of a small campaign: nine cells of three models, one of which fails."""
    configs = tmp_path / "configs"
    configs.mkdir()
    lines = []
    for name in ("test/one", "test/two", "test/three"):
        entry = {"hub_id": name, "architecture": "Qwen2ForCausalLM", "stands_for": None, "config": TINY}
        (configs / f"{name.replace('/', '--')}.json").write_text(json.dumps(entry))
        lines += [json.dumps({"model": name, "method": "lora", "seq_len": length}) for length in (16, 24, 32)]
    lines[4] = json.dumps({"model": "test/two", "method": "lora", "lora_targets": ["no_such_module"]})
    plan = tmp_path / "plan.jsonl"
    plan.write_text("\n".join(lines))
    os.environ["MEASUREMENTS_CONFIGS"] = str(configs)
    command = [sys.executable, "-m", "measurements", "run", "--cpu", "--plan", str(plan), "--processes", "2"]
    yield [*command, "--results", str(tmp_path / "results")]
    del os.environ["MEASUREMENTS_CONFIGS"]


def _count(results: Path) -> int:
    return len(list(results.glob("*/*.json")))


def _wait_for(what, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_killed_campaign_leaves_nobody_behind_and_goes_on(campaign: list[str], tmp_path: Path) -> None:
    results = tmp_path / "results"
    first = subprocess.Popen(campaign, cwd=ROOT)
    _wait_for(lambda: _count(results) >= 2)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    assert len(children) == 2
    first.kill()
    first.wait()

    def gone(pid: str) -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"

    _wait_for(lambda: all(gone(pid) for pid in children), 20)
    before = {path.name for path in results.glob("*/*.json")}
    assert subprocess.run(campaign, cwd=ROOT, timeout=300).returncode == 0
    after = {path.name for path in results.glob("*/*.json")}
    assert before <= after
    found = read_all(results)
    assert len(found) == len({json.dumps(data["cell"], sort_keys=True) for data in found}) == 9
    assert sorted(data["status"] for data in found) == ["failed"] + ["ok"] * 8


def test_a_killed_worker_is_replaced_and_its_cell_measured(campaign: list[str], tmp_path: Path) -> None:
    results = tmp_path / "results"
    parent = subprocess.Popen(campaign, cwd=ROOT)
    _wait_for(lambda: _count(results) >= 1)
    child = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()[0]
    os.kill(int(child), signal.SIGKILL)
    assert parent.wait(timeout=300) == 0
    found = read_all(results)
    assert len(found) == len({json.dumps(data["cell"], sort_keys=True) for data in found}) == 9


def test_a_limit_stops_between_cells(campaign: list[str], tmp_path: Path) -> None:
    assert subprocess.run([*campaign, "--limit-s", "0.1"], cwd=ROOT, timeout=300).returncode == 0
    assert _count(tmp_path / "results") == 0


WORKER = """
import sys, time
from pathlib import Path
from measurements.sharing import Deaths
folder, slot = Path(sys.argv[sys.argv.index("--worker") + 1]), int(sys.argv[sys.argv.index("--slot") + 1])
deaths = Deaths(folder, slot)
with open(sys.argv[1], "a") as file:
    file.write(str(deaths.condemned()) + "\\n")
if not deaths.condemned():
    deaths.begin("the cell")
    ACT
"""


@pytest.mark.parametrize(
    ("act", "starts", "reason"),
    [("time.sleep(600)", 2, "no end after 1 s"), ("sys.exit(9)", 3, "the process died (status 9)")],
)
def test_a_cell_that_kills_or_never_ends_is_left_out(tmp_path: Path, act: str, starts: int, reason: str) -> None:
    script, log = tmp_path / "worker.py", tmp_path / "log"
    script.write_text(WORKER.replace("ACT", act))
    os.environ["PYTHONPATH"] = str(ROOT)
    assert oversight.oversee([str(log)], [0], None, 1.0, (sys.executable, str(script))) == 0
    lines = log.read_text().splitlines()
    assert len(lines) == starts
    assert lines[-1] == str({"the cell": reason})


def test_workers_that_die_before_any_cell_are_not_started_for_ever(tmp_path: Path) -> None:
    script, log = tmp_path / "worker.py", tmp_path / "log"
    script.write_text("import sys; open(sys.argv[1], 'a').write('x'); sys.exit(1)")
    assert oversight.oversee([str(log)], [0], None, 1.0, (sys.executable, str(script))) == 1
    assert log.read_text() == "x" * oversight.MOST_BARREN


def test_who_waits_for_the_gpu_is_not_stopped(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path, 0)
    turns = Turns(tmp_path, deaths.mark(0))
    with turns.alone():
        assert not deaths.mark(0).exists()
    del turns  # this process shares nothing any more, and is not stopped by the others
    holder = "import sys; from pathlib import Path; from measurements.sharing import Turns\n"
    holder += "with Turns(Path(sys.argv[1])).alone():\n print('has it', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert other.stdout.readline() == b"has it\n"
    waiter = holder.replace("Turns(Path(sys.argv[1]))", "Turns(Path(sys.argv[1]), Path(sys.argv[1]) / '0.waiting')")
    third = subprocess.Popen(
        [sys.executable, "-c", waiter, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    _wait_for(lambda: deaths.mark(0).exists(), 20)
    other.kill()  # the kernel gives the turn back
    assert third.stdout.readline() == b"has it\n"
    assert not deaths.mark(0).exists()
    third.communicate(b"\n")
    other.communicate()


COUNTER = """
import sys, time
from pathlib import Path
from measurements.sharing import Turns
turns = Turns(Path(sys.argv[1]))
while True:
    print(time.time(), flush=True)
    time.sleep(0.01)
"""
TIMER = """
import sys, time
from pathlib import Path
from measurements.sharing import Turns
with Turns(Path(sys.argv[1])).alone():
    print("alone", flush=True)
    input()
print("done", flush=True)
"""


def _start(script: str, folder: Path, **pipes: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, cwd=ROOT, **pipes)


def _state(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_others_stand_still_while_one_times_its_steps(tmp_path: Path) -> None:
    counter = _start(COUNTER, tmp_path)
    try:
        assert counter.stdout.readline()
        timer = _start(TIMER, tmp_path, stdin=subprocess.PIPE)
        assert timer.stdout.readline() == b"alone\n"
        _wait_for(lambda: _state(counter) == "T", 20)
        timer.communicate(b"\n")
        _wait_for(lambda: _state(counter) != "T", 20)
    finally:
        counter.kill()
        counter.communicate()


def test_who_was_stopped_by_a_worker_that_died_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\nfrom measurements.sharing import Peers\n"
        "slot, folder = sys.argv[sys.argv.index('--slot') + 1], Path(sys.argv[1])\npeers = Peers(folder)\n"
        "while len(list(folder.glob('*.peer'))) < 2: time.sleep(0.01)\n"
        "if slot == '0':\n"
        "    with peers.stopped(): (folder / 'stopped').touch(); os._exit(2)\n"
        "while not (folder / 'stopped').exists(): time.sleep(0.01)\n"
        "(folder / 'went on').touch()\n"
    )
    os.environ["PYTHONPATH"] = str(ROOT)
    oversight.oversee([str(tmp_path)], [0, 0], None, 60.0, (sys.executable, str(script)))
    assert (tmp_path / "went on").exists()


def test_the_workers_of_each_gpu_get_their_part_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(10)))
    assert oversight.share_processors(1) == [set()], "all of them"
    assert oversight.share_processors(3) == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}]
    assert oversight.share_processors(8) == [set()] * 8, "too few to share"


def test_a_worker_sees_its_own_gpu_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, sys\nslot = sys.argv[sys.argv.index('--slot') + 1]\n"
        "open(os.path.join(sys.argv[1], slot), 'w').write(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))\n"
    )

    def seen(slots: list[int]) -> list[str]:
        assert oversight.oversee([str(tmp_path)], slots, None, 60.0, (sys.executable, str(script))) == 0
        return [(tmp_path / str(number)).read_text() for number in range(len(slots))]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen([0, 0]) == ["all", "all"]
    assert seen([0, 1, 1]) == ["0", "1", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert seen([0, 1]) == ["4", "6"]


def test_a_cell_that_leaves_memory_behind_and_no_result_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure_group(*_: object) -> Any:
        raise measure.NotClean("17 bytes stay allocated", blamed=False)
        yield

    monkeypatch.setattr(measure, "measure_group", measure_group)
    gauge = SimpleNamespace(turns=Turns(tmp_path), cap=None, set_cap=lambda _: None)
    session = SimpleNamespace(gauge=gauge, total=80 << 30, processes=4, before={"memory": 0.0})
    cell, deaths = make_cell({"model": "Qwen/Qwen2.5-7B"}), Deaths(tmp_path)
    for _ in range(Deaths.TRIES):
        assert deaths.condemned() == {}
        work = Worklist(session, [cell], tmp_path, "gpu", Clock(None, False), tmp_path, deaths)
        assert work.work() == oversight.REPLACE_PROCESS
    assert deaths.condemned() == {cell.key: "17 bytes stay allocated"}


def test_tickets_of_the_dead_are_free_again(tmp_path: Path) -> None:
    tickets = Tickets(100, tmp_path)
    taker = "import sys; from pathlib import Path; from measurements.sharing import Tickets\n"
    taker += "with Tickets(100, Path(sys.argv[1])).take(80) as mine:\n print(mine, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", taker, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert other.stdout.readline() == b"80\n"
    with tickets.take(30, lambda: False) as none:
        assert none is None, "it does not fit, and there is no patience"
    with tickets.take(20, lambda: False) as some:
        assert some == 20, "a smaller one fits"
    other.kill()
    other.communicate()
    with tickets.take(500, lambda: False) as everything:
        assert everything == 100
    assert not list(tmp_path.glob("*.ticket"))


def test_a_share_that_was_too_small_is_remembered_by_a_later_process(tmp_path: Path) -> None:
    Claims(tmp_path).note_too_little("0123456789abcdef" * 4, 5 << 30)
    assert Claims(tmp_path).too_little("0123456789abcdef" * 4) == 5 << 30
    assert Claims(tmp_path).too_little("f" * 64) == 0
    assert Claims().too_little("f" * 64) == 0


def test_a_booking_lets_pass_only_what_leaves_room_for_it(tmp_path: Path) -> None:
    """65 of 100 are held, 70 booked: a ticket of 31 would fit now and be in the way later; one of 15 would not."""
    tickets = Tickets(100, tmp_path)
    takers = []

    def take(size: int) -> subprocess.Popen:
        code = "import sys; from pathlib import Path; from measurements.sharing import Tickets\n"
        code += f"with Tickets(100, Path(sys.argv[1])).take({size}) as mine:\n print(mine, flush=True); input()"
        taker = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        takers.append(taker)
        return taker

    try:
        first = take(60)
        assert first.stdout.readline() == b"60\n"
        second = take(5)
        assert second.stdout.readline() == b"5\n"
        booker = take(70)
        _wait_for(lambda: list(tmp_path.glob("*.booking")), 30)
        with tickets.take(31, lambda: True) as too_much:
            assert too_much is None, "give up at once, whatever the patience"
        with tickets.take(15, lambda: False) as little:
            assert little == 15
            first.communicate(b"\n")
            assert booker.stdout.readline() == b"70\n", "what was let pass does not stand in the way"
        assert not list(tmp_path.glob("*.booking"))
    finally:
        for taker in takers:
            taker.kill()
            taker.communicate()


def test_what_stays_open_is_done_once_in_a_campaign(campaign: list[str], tmp_path: Path) -> None:
    """A CPU finds no smallest cap, so a cell that wants one is open again afterwards."""
    plan = tmp_path / "plan.jsonl"
    lines = [{"model": "test/one", "method": "lora", "seq_len": length, "min_cap": True} for length in (16, 24)]
    plan.write_text("\n".join(json.dumps(line) for line in lines))
    assert subprocess.run(campaign, cwd=ROOT, timeout=300).returncode == 0
    assert _count(tmp_path / "results") == 2


def test_cells_that_outgrow_their_share_get_the_card_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def oversee(arguments: list[str], slots: list[int], *_: object) -> int:
        calls.append((arguments[-2:], slots))
        return oversight.OUTGROWN if len(calls) == 1 else 0

    monkeypatch.setattr(oversight, "oversee", oversee)
    assert main(["run", "--models", "Qwen/Qwen2.5-7B", "--gpus", "2", "--processes", "3"]) == 0
    assert [slots for _, slots in calls] == [[0, 0, 0, 1, 1, 1], [0, 1]]
    assert calls[1][0] == ["--processes", "1"]


def test_running_out_of_a_share_is_no_result(tmp_path: Path) -> None:
    session = SimpleNamespace(
        gauge=SimpleNamespace(turns=Turns(tmp_path)), total=80 << 30, processes=4, before={"memory": 0.0}
    )
    cell = make_cell({"model": "Qwen/Qwen2.5-7B"})
    work = Worklist(session, [cell], tmp_path, "gpu", Clock(None, False), tmp_path, Deaths(tmp_path))
    assert work.total == 76 << 30
    out = {"status": "oom", "reason": "out of memory"}
    assert work._is_cramped(out, 20 << 30)
    assert not work._is_cramped({"status": "oom", "reason": "needs 99 bytes, extended from cut depths"}, 20 << 30)
    assert not work._is_cramped({"status": "ok", "reason": None}, 20 << 30)
    assert work._still_open([cell]) == [cell]
    work.claims.note_too_little(cell.key, 20 << 30)
    assert work._need(cell) == 40 << 30
    assert work._still_open([cell]) == [cell]
    work.claims.note_too_little(cell.key, work.total)
    assert work._still_open([cell]) == []
    assert work.outgrown


@pytest.mark.parametrize(("gib", "processes"), [(0, 1), (8, 1), (24, 1), (48, 3), (80, 4), (141, 4)])
def test_small_cards_are_not_shared(monkeypatch: pytest.MonkeyPatch, gib: int, processes: int) -> None:
    monkeypatch.setattr(command, "_card_bytes", lambda: gib << 30)
    assert command.count_processes(Namespace(processes=None, cpu=False)) == processes
    assert command.count_processes(Namespace(processes=6, cpu=False)) == 6
    assert command.count_processes(Namespace(processes=None, cpu=True)) == 1


def test_progress_says_how_far_how_fast_and_how_long_still() -> None:
    assert oversight.describe_progress(0, 10, 5.0) == "░" * 30 + " 0/10"
    assert oversight.describe_progress(5, 10, 60.0) == "█" * 15 + "░" * 15 + " 5/10, 5.0 cells/min, 60 s to go"
    assert oversight.describe_progress(10, 400, 60.0).endswith("10.0 cells/min, 39 min to go")
    assert oversight.describe_progress(1, 400, 60.0).endswith("1.0 cells/min, 6.7 h to go")
    assert oversight.describe_progress(0, 0, 0.0).endswith("0/0"), "nothing to do"


def test_gpus_are_counted_as_asked_as_visible_or_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(**asked: object) -> int:
        return count_gpus(Namespace(**{"gpus": None, "cpu": False} | asked))

    assert count(gpus=3) == 3
    assert count(cpu=True) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert count() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count() == 1
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    nvml = SimpleNamespace(nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 8)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert count() == 8
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert count() == 4

"""Files shared out to processes: the same answers, whatever happens to a process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from flex_assist.config import MiningSettings
from flex_assist.repository import examine, workers
from flex_assist.repository.snapshot import take_snapshot
from flex_assist.repository.walk import list_repository

# Answers with its process and session, and does as it is told.
MODULE = """
import os, sys, time
from pathlib import Path
from flex_assist.repository import workers

def main():
    server = workers.serve()
    print("not an answer")
    for question in server.questions():
        if question == "die":
            os._exit(1)
        if question == "die once" and not Path(server.request["mark"]).exists():
            Path(server.request["mark"]).touch()
            os.kill(os.getpid(), 9)
        if question == "meet":
            Path(f"{server.request['mark']}.{os.getpid()}").touch()
            while len(list(Path(server.request["mark"]).parent.glob("mark.*"))) < 2:
                time.sleep(0.01)
        if question.startswith("sleep"):
            time.sleep(float(question[5:]))
        server.answer([question, os.getpid(), os.getsid(0)])

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "told_worker.py").write_text(MODULE)
    path = [str(folder), str(Path(workers.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    return "told_worker"


def asked(
    module: str, questions: list[str], mark: Path, time_limit_s: float = 60.0
) -> dict[int, Any]:
    before = children()
    request = {"mark": str(mark)}
    found = list(workers.ask(module, request, questions, time_limit_s))
    assert len(dict(found)) == len(found) == len(questions)
    assert children() <= before
    return dict(found)


def children() -> set[int]:
    """Processes that this one started; other tests may have left some."""
    return {one.pid for one in psutil.Process().children(recursive=True)}


def wait_until(holds: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(holds())


def test_each_question_is_answered_once_by_several(module: str, tmp_path: Path) -> None:
    count = min(workers.cores(), workers.MAX_WORKERS)
    questions = [f"question {number} \udcff" for number in range(500)]
    if count > 1:
        questions[0] = questions[workers.QUESTIONS_AT_ONCE] = "meet"
    found = asked(module, questions, tmp_path / "mark")
    assert [found[number][0] for number in range(500)] == questions
    processes = {answer[1] for answer in found.values()}
    assert min(count, 2) <= len(processes) <= count
    # A Ctrl-C in the terminal is not for them.
    assert os.getsid(0) not in {answer[2] for answer in found.values()}


def test_a_question_that_ends_the_process_is_given_up(module: str, tmp_path: Path) -> None:
    questions = [*"abc", "die", *"def", "die", *map(str, range(100))]
    found = asked(module, questions, tmp_path / "mark")
    failed = {n for n, answer in found.items() if isinstance(answer, workers.Failure)}
    assert failed == {3, 7}
    assert found[3].reason == "ends the process"
    assert all(found[n][0] == questions[n] for n in set(found) - failed)


def test_a_question_during_which_a_process_is_killed_is_put_again(
    module: str, tmp_path: Path
) -> None:
    found = asked(module, ["a", "die once", "b"], tmp_path / "mark")
    assert [found[number][0] for number in range(3)] == ["a", "die once", "b"]


def test_a_question_that_takes_too_long_is_given_up(module: str, tmp_path: Path) -> None:
    started = time.monotonic()
    found = asked(module, ["a", "sleep600", "b", "sleep0.1"], tmp_path / "mark", time_limit_s=1.5)
    assert time.monotonic() - started < 60
    assert found[1] == workers.Failure(reason="takes too long")
    assert [found[number][0] for number in (0, 2, 3)] == ["a", "b", "sleep0.1"]


def test_leaving_early_ends_the_processes(module: str, tmp_path: Path) -> None:
    before = children()
    questions = ["a", *["sleep300"] * 200]
    answers = workers.ask(module, {"mark": ""}, questions, 600)
    with contextlib.closing(answers):
        next(answers)
        assert children() - before
    assert children() <= before


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_asks(module: str, end: signal.Signals) -> None:
    # Whoever is started by a job in the background ignores Ctrl-C, unless told otherwise.
    program = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from flex_assist.repository import workers\n"
        f"for found in workers.ask({module!r}, {{}}, ['a'] * 9 + ['sleep1'] * 999, 99):\n"
        "    print(found, flush=True)\n"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert asking.stdout is not None
    asking.stdout.readline()
    own = psutil.Process(asking.pid).children()
    assert own
    asking.send_signal(end)
    assert asking.wait(20) != 0
    asking.stdout.close()
    assert wait_until(lambda: not any(one.is_running() for one in own))


def test_without_processes_the_caller_is_told(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "executable", "/nowhere/python")
    with pytest.raises(workers.NoWorkersError):
        list(workers.ask(module, {}, ["a", "b"], 60))


def test_processes_with_other_code_are_not_asked(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.flex_assist, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(workers.NoWorkersError):
        list(workers.ask(module, {}, ["a", "b"], 60))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for number in range(40):
        file = root / f"part{number % 5}" / f"module_{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"def f_{number}_{n}(a):\n    return a * {n * number}" for n in range(20))
        file.write_text("\n\n".join(lines) + "\n")
    (root / "copy.py").write_text((root / "part0/module_0.py").read_text())
    (root / "key.py").write_text('x = "AKI' + 'AQWERTZUIOPASDFG2"\nprint(x, "and more")\n')
    (root / os.fsdecode(b"b\xffd.py")).write_text("".join(f"print('{n}')\n" for n in range(30)))
    (root / "page.html").write_text("<html><script>\nlet a = [1, 2];\nlet b = a[0];\n</script>")
    (root / "data.bin").write_bytes(b"\0" * 100)
    (root / "link.py").symlink_to("key.py")
    return root


def sources(root: Path, *, keep_text: bool = True) -> list[examine.Source]:
    return examine.examine(
        root, list_repository(root), MiningSettings(), None, None, keep_text=keep_text
    )


def test_processes_find_what_this_one_finds(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = sources(tree)
    before = take_snapshot(tree, MiningSettings(), seed=3)
    monkeypatch.setattr(examine, "MIN_FILES_FOR_WORKERS", 1)
    told: list[tuple[int, int]] = []
    assert sources(tree) == alone
    after = take_snapshot(
        tree, MiningSettings(), seed=3, progress=lambda *a: told.append(a), keep_text=False
    )
    assert after.verdicts == before.verdicts
    assert {one.text for one in after.train} == {""}
    assert [one.sha256 for one in after.train] == [one.sha256 for one in before.train]
    assert told[0][0] == 0
    assert told[-1] == (45, 45)
    packed = sources(tree, keep_text=False)
    assert [one.content() for one in packed] == [one.text for one in alone]


def test_a_file_that_ends_a_process_does_not_end_the_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A rule that fails on one file, in the other process.
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "failing_worker.py").write_text(
        "from flex_assist.repository import masking, worker\n"
        "mask = masking.mask\n"
        "masking.mask = lambda text: mask(text) if 'f_7_3' not in text else 1 / 0\n"
        "if __name__ == '__main__':\n    worker.main()\n"
    )
    path = [str(folder), str(Path(workers.__file__).parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    expected = sources(tree)
    monkeypatch.setattr(examine, "MIN_FILES_FOR_WORKERS", 1)
    monkeypatch.setattr(examine, "_WORKER", "failing_worker")
    found = {one.path: one for one in sources(tree)}
    failed = {one.path: one.objection for one in found.values() if one.sha256 == ""}
    objection = failed.pop("part2/module_7.py")
    assert objection is not None
    assert (objection.rule, objection.value) == ("failed", "ends the process")
    assert [one for one in expected if one.path != "part2/module_7.py"] == [
        one for one in found.values() if one.path != "part2/module_7.py"
    ]


def test_no_secret_passes_through_a_verdict(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "MIN_FILES_FOR_WORKERS", 1)
    found = take_snapshot(tree, MiningSettings(), seed=0, keep_text=False)
    shown = json.dumps([repr(one) for one in found.verdicts])
    assert "secret" in shown
    assert "QWERTZUIOPASDFG2" not in shown

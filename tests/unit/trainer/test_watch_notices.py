"""Which events matter, and that they are few whatever comes; what is told of them."""

import json

import pytest

from flex_assist.repository.documents import Objection
from flex_assist.repository.walk import Entry, Listing
from flex_trainer.watch_notices import Noticed, Notices, folders_of, may_matter
from flex_trainer.watch_telling import Teller


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("a.py", True),
        ("deep/er/b.GO", True),
        ("Makefile", True),
        ("tool", True),
        (".gitignore", True),
        ("deep/.flexassistignore", True),
        ("notes.ipynb", True),
        ("app.vue", True),
        ("debug.log", False),
        (".a.py.swp", False),
        ("a.py~", False),
        ("index.lock", False),
        (".git/index", False),
        (".git/refs/heads/main", False),
        ("x/node_modules/y/z.js", False),
        ("__pycache__/a.py", False),
    ],
)
def test_names_that_matter(path, matters):
    assert may_matter(path) is matters


def test_any_number_of_events_is_kept_as_a_few_numbers():
    notices = Notices()
    assert notices.take() == Noticed()
    for number in range(20_000):
        notices.file(f"{number}.py")
        notices.file(f"{number}.log")
        notices.folder(f"node_modules/{number}")
    found = notices.take()
    assert (found.events, found.folders) == (20_000, False)
    assert notices.take() == Noticed()
    notices.folder("new")
    notices.file("new/a.py")
    assert notices.take().folders
    notices.lost()
    assert notices.take().folders


def test_folders_are_those_of_what_is_listed():
    entries = [
        Entry(path="a.py"),
        Entry(path="src/deep/er/b.py"),
        Entry(path="src/c.py", objection=Objection(rule="symlink")),
        Entry(path="web/node_modules/x/y.js"),
        Entry(path="left-out/d.py", objection=Objection(rule="ignored")),
    ]
    listing = Listing(source="git", entries=tuple(entries))
    assert folders_of(listing) == {"", "src", "src/deep", "src/deep/er"}


def test_a_reason_to_wait_is_told_once(capsys):
    teller = Teller(as_json=True)
    for reason in ("busy", "busy", "on battery", "busy", "busy"):
        teller.waits(reason)
    teller.works()
    teller.waits("busy")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"].removeprefix("waiting: ") for line in lines] == [
        "busy", "on battery", "busy", "busy",
    ]  # fmt: skip


def test_people_read_a_line_for_each_phase(capsys):
    teller = Teller(as_json=False)
    for step in range(1, 9):
        teller.progress({"phase": "train", "language": "go", "step": step, "steps": 8})
    teller.progress({"phase": "gate", "language": "go", "note": "a\x1b[2Jb"})
    teller.tell("promoted", "promoted: go")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["train go", "a\\x1b[2Jb", "gate go", "promoted: go"]

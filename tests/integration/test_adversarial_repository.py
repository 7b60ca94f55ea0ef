"""A hostile repository: nothing hangs, leaks, follows a link or is executed.

The generator lies in a folder of shared data: ``FLEX_ASSIST_SHARED`` or ``../shared`` beside the
checkout. The tests are skipped where it is absent.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("FLEX_ASSIST_SHARED", CHECKOUT.parent / "shared"))
GENERATOR = SHARED / "data" / "make_bad_repo.py"
NOBODY = 65534
IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0
EXCLUDED_BY_GIT = "excluded_by_info.py"
UNREADABLE = {"unreadable file", "unreadable directory"}

pytestmark = [
    pytest.mark.skipif(not GENERATOR.is_file(), reason=f"no {GENERATOR}"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git"),
    pytest.mark.skipif(os.name == "nt", reason="the repository needs links, pipes and modes"),
]

# Imports come before the change of user, for the interpreter may lie where only root may read.
# The first snapshot, of an empty folder, is there for imports inside functions.
PROGRAM = """
import json, os, sys, tempfile
from pathlib import Path
import datasketch
from flex_assist.config import MiningSettings
from flex_assist.repository import secrets
from flex_assist.repository.snapshot import take_snapshot
from flex_trainer.dry_run import by_file
root, user = Path(sys.argv[1]), int(sys.argv[2])
secrets.find_secrets("warm = 'a1b2c3d4e5f6a7b8c9d0'")
"𐀀".encode("utf-16"), b"".decode("utf-8-sig")
with tempfile.TemporaryDirectory() as empty:
    take_snapshot(Path(empty), MiningSettings(), seed=0)
if user >= 0:
    os.setgroups([]); os.setgid(user); os.setuid(user)
os.chdir(root)
snapshot = take_snapshot(root, MiningSettings(), seed=0)
print(json.dumps({
    "listing": snapshot.listing,
    "parts": [[v.path, v.language] for v in snapshot.verdicts],
    "verdicts": [[v.path, v.verdict, v.rule, v.value] for v in by_file(snapshot.verdicts)],
    "documents": [[d.path, d.text] for d in snapshot.documents()],
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What was expected of the repository and what came out.

    Attributes:
        raw: Everything the snapshot and its process said, to look for secrets in.
        closed: Whether modes kept the process out of files.
        checkout: Whether the repository has a ``.git`` folder.
    """

    expected: dict[str, Any]
    found: dict[str, Any]
    raw: str
    seconds: float
    closed: bool
    checkout: bool


def generate(destination: Path, *, git: bool, user: int | None) -> dict[str, Any]:
    options = ["--fsmonitor-canary", "--sparse-mb", "2000"] if git else ["--no-git"]
    # The great number of files once; it has nothing to do with users.
    options += [] if git and user is None else ["--many", "200"]
    changed_to = str(-1 if user is None else user)
    subprocess.run(
        [sys.executable, "-c", _AS_USER, changed_to, str(GENERATOR), str(destination), *options],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(destination)},
    )
    expected: dict[str, Any] = json.loads((destination / "EXPECT.json").read_text())
    return expected


# Compiled before the change of user, as above.
_AS_USER = """
import argparse, base64, json, os, random, shutil, socket, stat, string, struct, subprocess, sys
user, script = int(sys.argv[1]), sys.argv[2]
code = compile(open(script).read(), script, "exec")
import encodings.utf_16, encodings.utf_32, encodings.latin_1, encodings.utf_16_be, encodings.idna
if user >= 0:
    os.setgroups([]); os.setgid(user); os.setuid(user)
sys.argv = [script, *sys.argv[3:]]
exec(code, {"__name__": "__main__", "__file__": script})
"""


def mine(destination: Path, user: int | None) -> tuple[dict[str, Any], str, float]:
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            str(destination / "repo"),
            str(-1 if user is None else user),
        ],
        capture_output=True,
        timeout=60,
        cwd=CHECKOUT,
        env={**os.environ, "HOME": str(destination), "PYTHONDEVMODE": "1"},
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    raw = done.stdout.decode()
    return json.loads(raw), raw + done.stderr.decode(), seconds


# Name: with git, owner of the repository, user who mines it. Git refuses a foreign owner's.
VARIANTS: dict[str, tuple[bool, int | None, int | None]] = {
    "git": (True, None, None),
    "plain folder": (False, None, None),
    "git as a plain user": (True, NOBODY, NOBODY),
    "plain folder as a plain user": (False, NOBODY, NOBODY),
    "git of another owner": (True, None, NOBODY),
}


@pytest.fixture(scope="module", params=VARIANTS)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    git, owner, user = VARIANTS[request.param]
    if user is not None and not IS_ROOT:
        pytest.skip("only root can become another user")
    # Not pytest's own folder, which no other user may enter.
    parent = Path(tempfile.mkdtemp(prefix="flex-assist-bad-"))
    parent.chmod(0o777)
    destination = parent / "case"
    try:
        expected = generate(destination, git=git, user=owner)
        destination.chmod(0o777)
        found, raw, seconds = mine(destination, user)
        closed = not IS_ROOT or user is not None
        yield Case(
            expected=expected, found=found, raw=raw, seconds=seconds, closed=closed, checkout=git
        )
    finally:
        for folder, _, _ in os.walk(parent):
            if not IS_ROOT:
                os.chmod(folder, 0o700)
        (parent / "case/repo/perm/closed_dir").chmod(0o700)
        shutil.rmtree(parent)


def wanted(case: Case) -> dict[str, str]:
    """Path to expectation, as far as the case holds there."""
    return {
        entry["path"]: entry["expect"]
        for entry in case.expected["entries"]
        if entry["expect"] != "either"
        # Modes stop nobody who is root, and a plain folder has no ".git/info/exclude".
        and (case.closed or entry["category"] not in UNREADABLE)
        and (case.checkout or entry["path"] != EXCLUDED_BY_GIT)
    }


def test_every_expectation_is_met(case: Case) -> None:
    verdicts = {path: verdict for path, verdict, _, _ in case.found["verdicts"]}
    assert len(verdicts) == len(case.found["verdicts"])
    # Of a file in several languages each part has a verdict, and no part has two.
    parts = [(path, language) for path, language in case.found["parts"]]
    assert len(set(parts)) == len(parts) >= len(verdicts)
    wrong = {}
    for path, expect in wanted(case).items():
        verdict = verdicts.get(path, "skip")
        if (expect == "skip") != (verdict == "skip"):
            wrong[path] = (expect, verdict)
    assert wrong == {}
    assert sum(expect == "train" for expect in wanted(case).values()) == 54


def test_no_secret_is_anywhere(case: Case) -> None:
    assert len(case.expected["secrets"]) >= 18
    said = case.raw
    if not case.checkout:
        # There it is a file like any other, with its one "secret".
        said = "".join(text for path, text in case.found["documents"] if path != EXCLUDED_BY_GIT)
        said += json.dumps(case.found["verdicts"])
    assert [s["kind"] for s in case.expected["secrets"] if s["value"] in said] == []


def test_nothing_was_executed(case: Case) -> None:
    assert len(case.expected["canaries"]) >= 8
    assert [path for path in case.expected["canaries"] if os.path.exists(path)] == []


def test_it_was_quick(case: Case) -> None:
    assert case.seconds < 60


def test_documents_are_clean_and_few_of_a_kind(case: Case) -> None:
    texts = [text for _, text in case.found["documents"]]
    assert not any("\r" in text or "\ufeff" in text or "\0" in text for text in texts)
    assert len(set(texts)) == len(texts)
    paths = [path for path, _ in case.found["documents"]]
    assert 1 <= sum(path.startswith("dup/") for path in paths) <= 4


def test_git_is_asked_where_it_answers(case: Case, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["case"]
    assert case.found["listing"] == ("git" if name in ("git", "git as a plain user") else "walk")

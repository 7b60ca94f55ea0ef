"""The whole way from a folder to documents, on folders of a few files."""

import json
from pathlib import Path

import pytest

from flex_assist.config import MiningSettings
from flex_assist.errors import ConfigError, DataError
from flex_assist.repository import git
from flex_assist.repository.forgotten import Forgotten
from flex_assist.repository.partition import MAX_OF_CLUSTER
from flex_assist.repository.snapshot import Snapshot, read_documents, take_snapshot

SETTINGS = MiningSettings(held_out_share=0.25, max_file_kib=4)


@pytest.fixture(autouse=True)
def without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "checkout", lambda root: None)


def module(name: str) -> str:
    return "".join(
        f"def {name}_{n}({name}_left, {name}_right):\n"
        f"    return {name}_left * {n} + {name}_right\n\n"
        for n in range(3)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(8):
        path = tmp_path / f"src/m{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(module(f"m{number}"))
    (tmp_path / "README.md").write_text("# read me\n")
    (tmp_path / "tool").write_text("#!/usr/bin/env python3\n" + module("tool"))
    (tmp_path / "one.go").write_text("package one\n\nfunc One() int {\n\treturn 1\n}\n")
    return tmp_path


def verdicts(snapshot: Snapshot) -> dict[str, tuple[str, str]]:
    return {one.path: (one.verdict, one.rule) for one in snapshot.verdicts}


def test_every_file_has_one_verdict_and_documents_agree(root: Path) -> None:
    snapshot = take_snapshot(root, SETTINGS, seed=1)
    assert len(snapshot.verdicts) == 11
    assert [one.path for one in snapshot.verdicts] == sorted(one.path for one in snapshot.verdicts)
    by_verdict = {
        kind: [one.path for one in snapshot.verdicts if one.verdict == kind]
        for kind in ("train", "held-out")
    }
    assert [one.path for one in snapshot.train] == by_verdict["train"]
    assert [one.path for one in snapshot.test] == by_verdict["held-out"]
    assert len(snapshot.test) == 3
    assert snapshot.languages() == ("python", "go")
    assert len(snapshot.of(["python"]).train) == 6
    assert snapshot.of(["go"]).test == ()
    assert snapshot.skipped_by_rule() == {"not-source": 1}
    assert snapshot.listing == "walk"


def test_seed_decides_the_split_and_nothing_else(root: Path) -> None:
    assert take_snapshot(root, SETTINGS, seed=1) == take_snapshot(root, SETTINGS, seed=1)
    splits = {tuple(d.path for d in take_snapshot(root, SETTINGS, seed=s).test) for s in range(6)}
    assert len(splits) > 1


def test_line_ends_mark_copies_and_size(root: Path) -> None:
    text = module("m0")
    (root / "windows.py").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (root / "large.py").write_text("value = compute(alpha)\n" * 400)
    found = {one.path: one for one in take_snapshot(root, SETTINGS, seed=0).verdicts}
    assert (found["windows.py"].rule, found["windows.py"].value) == ("copy", "src/m0.py")
    assert (found["large.py"].rule, found["large.py"].value) == ("too-large", 9200)


def test_near_duplicates_are_few_and_on_one_side(root: Path) -> None:
    body = "".join(module(f"part{n}") for n in range(4))
    for number in range(7):
        (root / f"near{number}.py").write_text(body + f"LAST = {number}\n")
    for seed in range(4):
        snapshot = take_snapshot(root, SETTINGS, seed=seed)
        skipped = [one for one in snapshot.verdicts if one.rule == "near-duplicate"]
        assert [one.value for one in skipped] == ["near0.py"] * (7 - MAX_OF_CLUSTER)
        sides = {one.verdict for one in snapshot.verdicts if one.path.startswith("near")}
        assert len(sides - {"skip"}) == 1


def test_a_secret_leaves_the_file_out_and_is_not_told(root: Path) -> None:
    secret = "hunter-" + "x7Kq2" * 3
    (root / "conf.py").write_text(module("conf") + f'PASSWORD = "{secret}"\n')
    snapshot = take_snapshot(root, SETTINGS, seed=0)
    found = {one.path: one for one in snapshot.verdicts}["conf.py"]
    assert (found.verdict, found.rule) == ("skip", "secret")
    assert found.value == "assigned-secret at line 10"
    assert secret not in repr(snapshot)


def test_a_secret_in_a_path_is_not_told_either(root: Path) -> None:
    secret = "ghp_" + "x7Kq2Zw9Lm" * 4
    (root / f"{secret}.py").write_text(module("named"))
    snapshot = take_snapshot(root, SETTINGS, seed=0)
    (found,) = [one for one in snapshot.verdicts if one.rule == "secret"]
    assert found.path == "REDACTED.py"
    assert secret not in repr(snapshot)


def test_personal_data_and_random_texts_are_masked(root: Path) -> None:
    key = "q7Zk2mXw9Lr4Tb8Vn3Hs6Jd1"
    person = "# by Jane Doe <jane.doe@corp-mail.com>\n"
    (root / "conf.py").write_text(module("conf") + person + f'VALUE = "{key}"\n')
    snapshot = take_snapshot(root, SETTINGS, seed=0)
    found = {one.path: one for one in snapshot.verdicts}["conf.py"]
    assert (found.verdict != "skip", found.value) == (True, 2)
    assert key not in repr(snapshot)
    assert "jane.doe@" not in repr(snapshot)
    (text,) = [one.text for one in snapshot.documents() if one.path == "conf.py"]
    assert text.endswith('<name@example.com>\nVALUE = "REDACTED"\n')


VUE = """<template><p>{{ n }}</p></template>
<script setup lang="ts">
%s</script>
<style scoped>
div { color: red; margin: 4px 8px }
</style>
"""


def test_a_file_of_several_languages_gives_a_document_for_each(root: Path) -> None:
    code = "export function shownCount(list: string[]): number {\n  return list.length;\n}\n"
    (root / "App.vue").write_text(VUE % code)
    cell = {"cell_type": "code", "source": ["def in_a_cell(x):\n", "    return x\n"], "outputs": []}
    notebook = {"cells": [cell], "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4}
    (root / "n.ipynb").write_text(json.dumps(notebook))
    snapshot = take_snapshot(root, SETTINGS, seed=0)
    parts = {(one.path, one.language): one.text for one in snapshot.documents()}
    assert parts["App.vue", "typescript"] == code
    assert parts["App.vue", "css"].startswith("div {")
    assert parts["n.ipynb", "python"].startswith("def in_a_cell(x):")
    assert len({one.cluster for one in snapshot.documents() if one.path == "App.vue"}) == 1
    only = take_snapshot(root, SETTINGS, seed=0, languages=["css"])
    assert [(one.path, one.language) for one in only.documents()] == [("App.vue", "css")]


def test_a_secret_in_one_part_leaves_the_file_out(root: Path) -> None:
    token = "ghp_" + "x7Kq2Zw9Lm" * 4
    (root / "App.vue").write_text(VUE % f'const token = "{token}";\nexport default token;\n')
    snapshot = take_snapshot(root, SETTINGS, seed=0)
    rules = {one.rule for one in snapshot.verdicts if one.path == "App.vue"}
    assert rules == {"secret"}
    assert token not in repr(snapshot)


def test_a_secret_that_json_hides_leaves_the_whole_notebook_out(root: Path) -> None:
    cells = [
        {"cell_type": "code", "source": ["password = (\n", '    "Xk29PmQ7Lw"\n', ")\n"]},
        {"cell_type": "code", "source": ["%%bash\n", "echo nothing to see in here\n"]},
    ]
    notebook = {"cells": cells, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4}
    (root / "n.ipynb").write_text(json.dumps(notebook))
    snapshot = take_snapshot(root, SETTINGS, seed=0)
    found = [(one.language, one.rule) for one in snapshot.verdicts if one.path == "n.ipynb"]
    assert found == [(None, "secret")]


def test_a_foreign_licence_is_left_out_and_the_repositorys_own_is_not(root: Path) -> None:
    header = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
    (root / "other.py").write_text(header + module("other"))
    found = {one.path: one for one in take_snapshot(root, SETTINGS, seed=0).verdicts}["other.py"]
    assert (found.rule, found.value) == ("licence", "GPL-3.0-or-later")
    (root / "COPYING").write_text("GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007\n")
    found = {one.path: one for one in take_snapshot(root, SETTINGS, seed=0).verdicts}["other.py"]
    assert (found.verdict != "skip", found.licence) == (True, "GPL-3.0-or-later")


def test_what_is_forgotten_is_left_out_under_every_name(root: Path) -> None:
    before = {one.path: one.sha256 for one in take_snapshot(root, SETTINGS, seed=0).documents()}
    forgotten = Forgotten().joined("src/m1.py").joined("tool").joined("x.py", [before["src/m2.py"]])
    (root / "moved.py").write_text((root / "src/m2.py").read_text())
    found = verdicts(take_snapshot(root, SETTINGS, seed=0, forgotten=forgotten))
    for path in ("src/m1.py", "tool", "src/m2.py", "moved.py"):
        assert found[path] == ("skip", "forgotten")
    assert found["src/m3.py"][0] != "skip"
    assert before.keys() >= {"tool"}
    texts = read_documents(root, SETTINGS, forgotten)
    assert not {one.path for one in texts} & {"src/m1.py", "src/m2.py", "moved.py", "tool"}


def test_languages_can_be_chosen(root: Path) -> None:
    snapshot = take_snapshot(root, SETTINGS, seed=0, languages=["go"])
    assert snapshot.languages() == ("go",)
    assert verdicts(snapshot)["src/m1.py"] == ("skip", "other-language")
    with pytest.raises(ConfigError, match="unknown language 'pyhton'; known: c, cpp"):
        take_snapshot(root, SETTINGS, seed=0, languages=["pyhton"])


def test_given_files_are_exactly_the_candidates(root: Path) -> None:
    (root / ".gitignore").write_text("src/\n")
    names = [f"src/m{n}.py" for n in range(7)] + ["./src/m7.py", str(root / "tool"), "gone.py"]
    snapshot = take_snapshot(root, SETTINGS, seed=0, train_files=names)
    assert len(snapshot.verdicts) == 10
    assert len(snapshot.train) == 6
    assert len(snapshot.test) == 3
    assert verdicts(snapshot)["gone.py"] == ("skip", "missing")


@pytest.mark.parametrize("name", ["../x.py", "/etc/passwd", "."])
def test_given_files_must_be_inside(root: Path, name: str) -> None:
    with pytest.raises(DataError, match="is not below"):
        take_snapshot(root, SETTINGS, seed=0, train_files=[name])


def test_progress_ends_with_all(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    take_snapshot(root, SETTINGS, seed=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 11), (11, 11)]


def test_an_empty_folder_gives_an_empty_snapshot(tmp_path: Path) -> None:
    snapshot = take_snapshot(tmp_path, SETTINGS, seed=0)
    assert (snapshot.verdicts, snapshot.documents()) == ((), ())
    assert snapshot.languages() == ()

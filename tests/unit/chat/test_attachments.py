import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flex_assist.chat.attachments import MAX_ATTACHMENT_BYTES, Reference, attach, references
from flex_assist.chat.project_files import ProjectFiles, best_matches
from flex_assist.errors import DataError

Project = Callable[..., Path]

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


def read(message: str, root: Path) -> list[tuple[str, str]]:
    return [(a.label, a.text) for a in attach(message, root, ProjectFiles(root))]


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("see @src/app.py", ["src/app.py"]),
        ("@a.py, (@b.py) and @c.py. Or @d.py?", ["a.py", "b.py", "c.py", "d.py"]),
        ("@a.py and again @a.py", ["a.py"]),
        ("@a.py:10-40 @a.py:7", ["a.py:10-40", "a.py:7-7"]),
        ('@"my file.py":3-4 and @"other file.py"', ["my file.py:3-4", "other file.py"]),
        ("mail bob@example.com or a@b.py", []),
        ("`@inline.py` and\n```python\n@block.py\n```\n@real.py", ["real.py"]),
        ("```\n@open.py", []),
        ("@ alone, @, and @@", []),
        ("@größe/日本.py", ["größe/日本.py"]),
    ],
)
def test_references_of_a_message(message: str, found: list[str]) -> None:
    assert [reference.label for reference in references(message)] == found


def test_a_range_is_read_from_the_label() -> None:
    assert references("@a.py:10-40") == [Reference(path="a.py", lines=(10, 40))]


def test_files_and_lines_are_read(project: Project) -> None:
    root = project({"src/app.py": "one\r\ntwo\nthree\n", "b.go": "\ufeffpackage b\n"})
    assert read("@src/app.py @src/app.py:2-3 @b.go", root) == [
        ("src/app.py", "one\ntwo\nthree\n"),
        ("src/app.py:2-3", "two\nthree\n"),
        ("b.go", "package b\n"),
    ]
    assert read("@./src/../src/app.py:1", root) == [("./src/../src/app.py:1-1", "one\n")]


def test_the_language_is_that_of_the_file(project: Project) -> None:
    root = project({"a.py": "x\n", "run": "#!/usr/bin/env bash\n", "b.txt": "x\n"})
    found = attach("@a.py @run @b.txt", root, ProjectFiles(root))
    assert [a.language.name if a.language else None for a in found] == ["python", "shell", None]


def test_words_that_are_no_files_are_left_alone(project: Project) -> None:
    root = project({"README": "hello\n"})
    assert read("what does @dataclass or @pytest.fixture do?", root) == []
    assert read("@README", root) == [("README", "hello\n")]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("@missing.py", "there is no such file"),
        ("@src/missing", "there is no such file"),
        ("@../outside.py", "outside the repository"),
        ("@src/../../outside.py", "outside the repository"),
        ("@/etc/passwd", "outside the repository"),
        ("@src", "name a file"),
        ("@src/app.py/x", "no regular file"),
        ("@.git/config", "ignore rules"),
        ("@src/app.py:0", "it has lines 1 to 3, not 0 to 0"),
        ("@src/app.py:3-2", "not 3 to 2"),
        ("@src/app.py:9-12", "not 9 to 12"),
        ("@ignored.py", "ignore rules"),
        ("@private/plan.py", "ignore rules"),
        ("@data.py", "not UTF-8"),
        ("@nul.py", "not text"),
        ("@large.py", "257 KiB, more than 256 KiB"),
    ],
)
def test_what_must_not_be_read_is_refused_with_the_reason(
    project: Project, tmp_path: Path, message: str, why: str
) -> None:
    root = project(
        {
            "src/app.py": "a\nb\n",
            ".git/config": "[core]\n",
            ".gitignore": "ignored.py\n",
            ".flexassistignore": "private/\n",
            "ignored.py": "x\n",
            "private/plan.py": "x\n",
            "data.py": b"\xff\xfe\x00",
            "nul.py": b"a\0b",
            "large.py": b"#" * (MAX_ATTACHMENT_BYTES + 1024),
        }
    )
    (tmp_path / "outside.py").write_text("secret\n")
    with pytest.raises(DataError, match="cannot be attached") as caught:
        read(message, root)
    assert why in str(caught.value)


@needs_links
@pytest.mark.parametrize("name", ["link.py", "folder/outside.py", "inner.py"])
def test_no_link_is_followed(project: Project, tmp_path: Path, name: str) -> None:
    root = project({"real.py": "x\n"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "outside.py").write_text("outside\n")
    (root / "link.py").symlink_to(elsewhere / "outside.py")
    (root / "folder").symlink_to(elsewhere)
    (root / "inner.py").symlink_to(root / "real.py")
    with pytest.raises(DataError, match="it is a link"):
        read(f"@{name}", root)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_without_waiting(project: Project) -> None:
    root = project({"a.py": "x\n"})
    os.mkfifo(root / "pipe.py")
    with pytest.raises(DataError, match="no regular file"):
        read("@pipe.py", root)


def test_a_file_with_a_secret_is_refused_without_showing_it(project: Project) -> None:
    # Put together here, so that this file holds no secret itself.
    token = "ghp_" + "0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX"
    root = project({"settings.py": f"x = 1\ntoken = '{token}'\n"})
    with pytest.raises(DataError, match="line 2 looks like a secret") as caught:
        read("@settings.py", root)
    assert token not in str(caught.value)
    with pytest.raises(DataError, match="secret"):
        read("@settings.py:1", root)


PATHS = ("app.py", "docs/application.md", "src/deep/app_test.py", "src/main.go", "zapper/x.c")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("app", ["app.py", "docs/application.md", "src/deep/app_test.py", "zapper/x.c"]),
        ("APP.", ["app.py"]),
        ("src/", ["src/main.go", "src/deep/app_test.py"]),
        ("main", ["src/main.go"]),
        ("qqqqq", []),
    ],
)
def test_matches_by_name_then_path(typed: str, expected: list[str]) -> None:
    assert best_matches(typed, PATHS)[: len(expected) or None] == expected


def test_typing_errors_are_forgiven() -> None:
    assert "docs/application.md" in best_matches("aplication", PATHS)


def test_at_most_as_many_as_asked() -> None:
    assert len(best_matches("a", [f"a{n}.py" for n in range(99)], limit=5)) == 5


def test_ignored_files_are_not_offered(project: Project) -> None:
    root = project({"kept.py": "x\n", "ignored.py": "x\n", ".gitignore": "ignored.py\n"})
    assert ProjectFiles(root).complete("ke") == ["kept.py"]
    assert "ignored.py" not in ProjectFiles(root).complete("ignored")

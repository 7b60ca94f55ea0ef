"""Files that stay on the machine though their repository opted in to a server."""

import subprocess
from pathlib import Path

import pytest

from flex_assist.repository.outgoing import Outgoing

KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8 + "\n" + "x = 1\n" * 400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / ".gitignore").write_text(".env\nbuild/\n")
    (folder / ".flexassistignore").write_text("private/\n")
    for name in ("app.py", ".env", "build/made.py", "private/own.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x = 1\n")
    (tmp_path / "outside.py").write_text("x = 1\n")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    return folder


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("app.py", ""),
        ("not/saved/yet.py", ""),
        (None, "the document has no file"),
        (".env", "the file is ignored by git"),
        ("build/made.py", "the file is ignored by git"),
        ("private/own.py", "the file is left out (ignored)"),
        ("../outside.py", "the file lies outside of the repository"),
        ("link.py", "the file lies outside of the repository"),
        ("/etc/passwd", "the file lies outside of the repository"),
        ("AKIAQYLPMN5HHHFPZAM2.py", "a secret in the file's path (aws-token)"),
    ],
)
async def test_by_path(root: Path, path: str | None, why: str) -> None:
    assert await Outgoing(root).objection(path, "x = ", "\n") == why


async def test_absolute_paths(root: Path) -> None:
    outgoing = Outgoing(root)
    assert await outgoing.objection(str(root / "app.py"), "x") == ""
    assert await outgoing.objection(str(root / ".env"), "x") == "the file is ignored by git"


async def test_a_new_file_is_found(root: Path) -> None:
    outgoing = Outgoing(root)
    assert await outgoing.objection("app.py", "x") == ""
    (root / "new.py").write_text("x")
    assert await outgoing.objection("new.py", "x") == ""


async def test_a_secret_far_above_the_cursor(root: Path) -> None:
    """No prompt would show the header, and without it nothing looks like a key."""
    assert await Outgoing(root).objection("app.py", KEY) == "a secret in the file (private-key)"
    assert await Outgoing(root).objection("app.py", "", KEY) == "a secret in the file (private-key)"


async def test_a_piece_of_a_file_that_must_stay_keeps_the_prompt_here(root: Path) -> None:
    """It was free to leave when it was indexed."""
    outgoing = Outgoing(root)
    others = ["app.py", "other.py"]
    (root / "other.py").write_text("x = 1\n")
    assert await outgoing.objection("app.py", "x", "", others) == ""
    (root / ".gitignore").write_text("other.py\n")
    outgoing.forget()
    assert (
        await outgoing.objection("app.py", "x", "", others)
        == "of a file with a piece in the prompt: the file is ignored by git"
    )


@pytest.mark.parametrize("wanted", [True, False])
async def test_files_of_submodules_leave_where_they_are_learnt_from(
    root: Path, tmp_path: Path, wanted: bool
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "own.py").write_text("x = 1\n")
    allow = ("-c", "protocol.file.allow=always", "-c", "user.name=a", "-c", "user.email=a@b.c")
    for folder, *words in (
        (library, "init", "-q"),
        (library, "add", "."),
        (library, "commit", "-qm", "one"),
        (root, "submodule", "--quiet", "add", str(library), "lib"),
    ):
        subprocess.run(["git", "-C", str(folder), *allow, *words], check=True)
    why = await Outgoing(root, submodules=wanted).objection("app.py", "x", "", ["lib/own.py"])
    assert (why == "") == wanted

"""Which file a URI names."""

from pathlib import PurePath

import pytest

from flex_lsp.document import file_path


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b.py", "/a/b.py"),
        ("file:///a%20b/%C3%A9%23%3F.py", "/a b/é#?.py"),
        ("file:///a;b/c;d.py", "/a;b/c;d.py"),
        ("file://localhost/a.py", "/a.py"),
        ("file://server/share/a.py", "//server/share/a.py"),
        ("file:///C%3A/a.py", "c:/a.py"),
        ("vscode-notebook-cell:/a%20b/n.ipynb#W0sZmlsZQ%3D%3D", "/a b/n.ipynb"),
        ("vscode-notebook-cell:/c%3A/n.ipynb#W1", "c:/n.ipynb"),
        ("vscode-notebook-cell://wsl%2Bubuntu-20.04/home/a/n.ipynb#W2", "/home/a/n.ipynb"),
    ],
)
def test_files(uri: str, path: str) -> None:
    assert file_path(uri) == PurePath(path)


@pytest.mark.parametrize(
    "uri",
    ["vscode-notebook-cell:Untitled-1.ipynb?jupyter-notebook#W0", "vscode-notebook-cell:",
     "untitled:Untitled-1", "git:/a.py", "", "file:", "file://[", "a.py", "file:///a%00b"],
)  # fmt: skip
def test_what_is_no_file(uri: str) -> None:
    assert file_path(uri) is None

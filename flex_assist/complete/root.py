"""Which repository a file belongs to."""

from pathlib import Path

MARKERS = (".git", ".flexassist.toml", ".flexassistignore")
PROJECT_FILES = ("pyproject.toml", "package.json", "go.mod", "Cargo.toml", "pom.xml")


def find_root(path: Path) -> Path | None:
    """The nearest folder above ``path`` that is a repository, else that holds a project file."""
    folders = list(path.absolute().parents)
    if path.is_dir():
        folders.insert(0, path.absolute())
    for names in (MARKERS, PROJECT_FILES):
        for folder in folders:
            if any((folder / name).exists() for name in names):
                return folder
    return None

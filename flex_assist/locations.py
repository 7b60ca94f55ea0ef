"""Where things live: the only module that knows a directory.

``FLEX_ASSIST_HOME`` puts everything under one folder (tests, portable installs); otherwise the
platform's own folders are used.
"""

import hashlib
import os
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import platformdirs

APP = "flex-assist"
# A Unix socket's path may have about 104 bytes on the strictest platform.
MAX_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """The product's directories. None of them need exist before something is written."""

    config: Path
    data: Path
    cache: Path
    runtime: Path

    @property
    def config_file(self) -> Path:
        """The user's settings (TOML)."""
        return self.config / "config.toml"

    @property
    def models(self) -> Path:
        """GGUF files made or fetched by the product."""
        return self.data / "models"

    @property
    def adapters(self) -> Path:
        """``<repository>/<language>/<version>/``."""
        return self.data / "adapters"

    @property
    def conversations(self) -> Path:
        """The terminal chat's SQLite file."""
        return self.data / "conversations.sqlite"

    @property
    def engine_log(self) -> Path:
        """What the engine host writes to its standard error."""
        return self.cache / "engine.log"

    @property
    def speeds(self) -> Path:
        """What the engine host measured of the forms in which weights can be served."""
        return self.cache / "speeds.json"

    @property
    def prefixes(self) -> Path:
        """What the engine host had computed of the last documents when it ended."""
        return self.cache / "prefixes"

    def training(self, repository_id: str) -> Path:
        """Checkpoints of a run that is not finished."""
        return self.cache / "training" / repository_id

    def watched(self, repository_id: str) -> Path:
        """What ``watch`` remembers of a repository."""
        return self.cache / "watch" / f"{repository_id}.json"

    @property
    def socket(self) -> Path:
        """The engine host's socket, in a folder only the user can enter."""
        path = self.runtime / "engine.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"{APP}-{digest}" / "engine.sock"


def below(root: Path) -> Locations:
    """All directories in one folder: what ``FLEX_ASSIST_HOME`` stands for."""
    return Locations(
        config=root / "config", data=root / "data", cache=root / "cache", runtime=root / "run"
    )


def locate() -> Locations:
    """The directories of this process's user, after ``FLEX_ASSIST_HOME``."""
    home = os.environ.get("FLEX_ASSIST_HOME")
    if home:
        return below(Path(home).expanduser().absolute())
    dirs = platformdirs.PlatformDirs(APP, appauthor=False)
    return Locations(
        config=dirs.user_config_path,
        data=dirs.user_data_path,
        cache=dirs.user_cache_path,
        runtime=_runtime(dirs),
    )


def _runtime(dirs: platformdirs.PlatformDirs) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = dirs.user_runtime_path
    given = os.environ.get("XDG_RUNTIME_DIR")
    if sys.platform in ("darwin", "win32") or (given and path.is_relative_to(given)):
        return path / "run"
    # Without a folder of the system's it would be one of a known name under /tmp.
    return dirs.user_cache_path / "run"


def private_directory(path: Path) -> Path:
    """Make ``path``, readable by its owner alone, and give it back."""
    # mkdir gives its mode to the last folder only.
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True, mode=0o700)
    return path


def repository_id(root: Path) -> str:
    """A folder name for a repository: its own name, made safe, and a digest of its real path."""
    real = root.resolve()
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:10]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", real.name).strip("-.") or "root"
    return f"{name[:40]}-{digest}"

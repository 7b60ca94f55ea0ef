"""Where the engine host and its clients meet: a private folder with socket, token and locks.

On Windows, which has no Unix sockets in Python, the host listens on the loopback address and the
token keeps others out; its port is in a file of the folder.
"""

import asyncio
import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from flex_assist.errors import EngineError
from flex_assist.files import write_text_atomically
from flex_assist.locations import Locations, private_directory

TOKEN_BYTES: Final = 32
MAX_LOG_BYTES: Final = 1024 * 1024
_LOOPBACK: Final = "127.0.0.1"
_MAX_FILE_BYTES: Final = 256

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """The files of the meeting place.

    Attributes:
        tcp: Listen on the loopback address instead of a Unix socket.
    """

    socket: Path
    tcp: bool = sys.platform == "win32"

    @property
    def token_file(self) -> Path:
        """What a client must know; only the user can read it."""
        return self.socket.with_suffix(".token")

    @property
    def port_file(self) -> Path:
        """The port, where there is no Unix socket."""
        return self.socket.with_suffix(".port")

    @property
    def process_file(self) -> Path:
        """The id of the host's process: one that hangs cannot be asked."""
        return self.socket.with_suffix(".process")

    @property
    def host_lock(self) -> Path:
        """Held by the host as long as it serves."""
        return self.socket.with_suffix(".lock")

    @property
    def start_lock(self) -> Path:
        """Held by the client that starts a host."""
        return self.socket.with_suffix(".start")

    @property
    def busy_file(self) -> Path:
        """Renewed while the host works for people; see ``giving_way``."""
        return self.socket.with_suffix(".busy")

    def prepare(self) -> None:
        """Make the folder, or make sure that it is the user's own and closed to others.

        Raises:
            EngineError: It is somebody else's, or others can write to it.
        """
        folder = self.socket.parent
        try:
            private_directory(folder)
            status = folder.lstat()
        except OSError as error:
            raise EngineError(f"the folder {str(folder)!r} cannot be made: {error}") from error
        if not hasattr(os, "geteuid"):
            return
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise EngineError(
                f"the folder {str(folder)!r} is not your own; remove it, or set FLEX_ASSIST_HOME"
            )
        if status.st_mode & 0o022:
            raise EngineError(
                f"others can write to the folder {str(folder)!r}; remove it and try again"
            )
        if status.st_mode & 0o077:
            folder.chmod(0o700)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the host.

        Raises:
            OSError: No host listens.
        """
        if not self.tcp:
            return await asyncio.open_unix_connection(str(self.socket))
        port = _read_private(self.port_file)
        if not port.isdecimal():
            raise FileNotFoundError(str(self.port_file))
        return await asyncio.open_connection(_LOOPBACK, int(port))

    async def listen(self, serve: Serve) -> asyncio.Server:
        """Open the socket, in place of one that a dead host left. Only under ``host_lock``."""
        self.withdraw()
        write_text_atomically(self.token_file, secrets.token_hex(TOKEN_BYTES))
        write_text_atomically(self.process_file, str(os.getpid()))
        if self.tcp:
            server = await asyncio.start_server(serve, _LOOPBACK, 0)
            write_text_atomically(self.port_file, str(server.sockets[0].getsockname()[1]))
            return server
        # The folder is closed to others, so nobody can come in before the mode is set.
        server = await asyncio.start_unix_server(serve, str(self.socket))
        self.socket.chmod(0o600)
        return server

    def withdraw(self) -> None:
        """Remove socket and port. Only under ``host_lock``."""
        self.socket.unlink(missing_ok=True)
        self.port_file.unlink(missing_ok=True)

    def identity(self) -> tuple[int, int, str] | None:
        """Which socket and token clients find now; None without a socket."""
        try:
            status = (self.port_file if self.tcp else self.socket).lstat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, self.token()

    def token(self) -> str:
        """The token of the host that listens; empty if there is none."""
        return _read_private(self.token_file)

    def process(self) -> int | None:
        """The process of the host that listens, or listened last; None if there was none."""
        number = _read_private(self.process_file)
        return int(number) if number.isdecimal() else None


def open_log(path: Path) -> IO[bytes]:
    """The host's log, to be added to; begun anew when it has grown large.

    Raises:
        EngineError: It cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        private_directory(path.parent)
        file = os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)
        if os.fstat(file.fileno()).st_size > MAX_LOG_BYTES:
            file.truncate(0)
    except OSError as error:
        raise EngineError(f"the log {str(path)!r} cannot be written: {error}") from error
    return file


def rendezvous(locations: Locations) -> Rendezvous:
    """The meeting place of this user."""
    return Rendezvous(socket=locations.socket)


class FileLock:
    """A lock that ends with its holder, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[Any] | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; whether this object holds it now."""
        if self._file is not None:
            return True
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        file = os.fdopen(os.open(self._path, flags, 0o600), "r+b")
        if not _try_lock(file.fileno()):
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_private(path: Path) -> str:
    """A short file that only the user could have written; empty if there is none such."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
            if own and stat.S_ISREG(status.st_mode):
                return file.read(_MAX_FILE_BYTES).decode("ascii").strip()
    return ""

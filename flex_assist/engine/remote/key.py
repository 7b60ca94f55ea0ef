"""The API key: read when it is needed, sent in one header, and never shown."""

import os
import stat
from pathlib import Path
from typing import Final

from flex_assist.errors import ConfigError
from flex_assist.remote_settings import RemoteSettings

MAX_KEY_BYTES: Final = 8192


def api_key(settings: RemoteSettings) -> str | None:
    """The key that the settings name; None if they name none.

    Raises:
        ConfigError: It is not there, is no key, or others can read its file.
    """
    if settings.api_key_env:
        value = os.environ.get(settings.api_key_env, "")
        if not value.strip():
            raise ConfigError(
                f"the environment variable {settings.api_key_env!r}, which is to hold the API key "
                f"of {settings.host}, is not set; set it where the editor is started"
            )
        return _checked(value, f"the environment variable {settings.api_key_env!r}")
    if settings.api_key_file:
        path = Path(settings.api_key_file).expanduser()
        return _checked(_read(path), repr(str(path)))
    return None


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{str(path)!r} is no file; write the API key into one")
            # Windows keeps no such bits.
            if os.name == "posix" and status.st_mode & 0o077:
                raise ConfigError(
                    f"others can read the API key in {str(path)!r}: run chmod 600 on it"
                )
            return file.read(MAX_KEY_BYTES + 1).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"the API key {str(path)!r} cannot be read: {error.strerror}") from error


def _checked(value: str, where: str) -> str:
    key = value.strip()
    if not key or len(key) > MAX_KEY_BYTES or any(not "!" <= letter <= "~" for letter in key):
        raise ConfigError(f"{where} holds no API key: one line of ASCII without blanks is wanted")
    return key

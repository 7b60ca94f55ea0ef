"""Opting in to a server: one table for each repository, in the user's own settings file only.

    [remote."~/src/shop"]
    url = "https://llm.example.com/v1"

The table's name is the repository's root. Code leaves the machine for repositories that are named
so and for no others. Neither a repository's own file nor the environment nor an editor, whose
settings may come with a workspace, can name one or change a server.
"""

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints
from urllib.parse import SplitResult, urlsplit

from flex_assist.setting import check, setting

SECTION: Final = "remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """A server that completes for one repository; without ``url`` nothing leaves the machine."""

    url: str = setting("", "address of an OpenAI-compatible server, up to /v1; empty: none")
    base: str = setting("", "the base model's name there; empty takes the only one that is no LoRA")
    adapter: str = setting(
        "{adapter}", "an adapter's name there; {adapter} and {version} stand for ours"
    )
    api_key_env: str = setting("", "environment variable that holds the API key")
    api_key_file: str = setting("", "file that holds the API key, readable by you alone")
    ca_file: str = setting("", "certificates to trust, PEM; empty takes the system's")
    plain_http: bool = setting(False, "allow http to another machine: others can read all of it")
    prompt: str = setting(
        "auto",
        "send token ids or text; auto sends ids where the server's vocabulary is shown to be ours",
        choices=("auto", "tokens", "text"),
    )
    fallback: bool = setting(True, "compute on this machine where the server does not")
    connect_timeout_s: float = setting(2.0, "seconds to connect", low=0.05, high=60)
    first_timeout_s: float = setting(5.0, "seconds until the first text", low=0.1, high=600)
    stall_timeout_s: float = setting(8.0, "seconds from one text to the next", low=0.1, high=600)
    total_timeout_s: float = setting(120.0, "seconds for a whole answer", low=0.1, high=3600)
    retries: int = setting(
        1, "tries after the first, where no text had come and a try may help", low=0, high=5
    )

    def name_of(self, adapter: str, version: str) -> str:
        """What the server calls an adapter of ours."""
        return self.adapter.replace("{adapter}", adapter).replace("{version}", version)

    @property
    def host(self) -> str:
        """The server's host, with its port if one is given, for people."""
        return urlsplit(self.url).netloc


NO_REMOTE: Final = RemoteSettings()


def read_remotes(tables: object, source: str, faults: list[str]) -> dict[Path, RemoteSettings]:
    """The servers of a settings file by the repository's resolved root.

    Args:
        faults: What is wrong is added here; a table with a fault opts in to nothing.
    """
    if not isinstance(tables, Mapping):
        faults.append(f'{source}: {SECTION} must hold tables, e.g. [{SECTION}."~/src/shop"]')
        return {}
    found: dict[Path, RemoteSettings] = {}
    for name, table in tables.items():
        where = f'{source}: {SECTION}."{name}"'
        root = Path(name).expanduser()
        if not isinstance(table, Mapping):
            faults.append(
                f"{where} = {table!r}: must be a table named by the root of a repository, "
                f'e.g. [{SECTION}."~/src/shop"]'
            )
        elif not root.is_absolute():
            faults.append(f"{where}: the root of a repository must be an absolute path")
        else:
            known = len(faults)
            remote = _read(table, where, faults)
            if len(faults) == known:
                found[root.resolve()] = remote
    return found


def url_fault(url: str, plain_http: bool) -> str | None:
    """Why nothing may be sent to ``url``, for people; None if it may."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "must begin with https:// (or http:// on this machine) and name a host"
    if parts.username is not None or parts.password is not None:
        return "must hold no name or password; use api_key_env or api_key_file"
    if parts.query or parts.fragment or any(not "!" <= letter <= "~" for letter in url):
        return "must be a plain address, without ? or # or blanks"
    if parts.scheme == "http" and not is_loopback(parts) and not plain_http:
        return "sends code over the network for everyone to read; use https, or plain_http = true"
    return None


def is_loopback(parts: SplitResult) -> bool:
    """Whether an address is on this machine by its very form: no name is looked up."""
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(table: Mapping[str, Any], where: str, faults: list[str]) -> RemoteSettings:
    hints = get_type_hints(RemoteSettings)
    fields = {field.name: field for field in dataclasses.fields(RemoteSettings)}
    accepted: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            faults.append(f"{where}.{key} is unknown; known: {', '.join(fields)}")
            continue
        try:
            accepted[key] = check(value, hints[key], fields[key].metadata, False)
        except (TypeError, ValueError, OverflowError) as error:
            faults.append(f"{where}.{key} = {value!r}: {error}")
    remote = RemoteSettings(**accepted)
    if wrong := url_fault(remote.url, remote.plain_http):
        # The address itself may hold a password.
        shown = repr(remote.url) if "@" not in remote.url else "…"
        faults.append(f"{where}.url = {shown}: {wrong}")
    if remote.api_key_env and remote.api_key_file:
        faults.append(f"{where}: give api_key_env or api_key_file, not both")
    return remote

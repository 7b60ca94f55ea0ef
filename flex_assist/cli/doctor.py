"""``flex-assist doctor``: is everything in place, and what to do if not."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from flex_assist import __version__, config
from flex_assist.cli.output import JSON_HELP, print_json, printable
from flex_assist.complete.root import find_root
from flex_assist.errors import BusyError, FlexAssistError, how_to_install
from flex_assist.locations import Locations, locate
from flex_assist.locks import exclusive
from flex_assist.models import installed, store

EXTRAS = {"train": ("torch", "peft"), "lsp": ("pygls",), "tui": ("textual",)}
LEAST_FREE_GB = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        advice: What to do where it is not as it should be.
        choices: What else could be done, by name: commands.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""
    choices: dict[str, str] = field(default_factory=dict)


def command(
    fix: Annotated[
        bool, typer.Option("--fix", help="remove debris and mend pointers; no version is deleted")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Check the installation and say what to do about what is missing."""
    checks = list(examine(locate(), fix=fix))
    healthy = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            mark = "ok  " if check.ok else "FAIL"
            print(printable(f"{mark} {check.name:16} {check.found}"))
            if check.advice and not check.ok:
                print(printable(f"     -> {check.advice}"))
            for name, how in check.choices.items():
                print(printable(f"     {name}: {how}"))
    raise typer.Exit(0 if healthy else 1)


def examine(locations: Locations, *, fix: bool = False) -> Iterator[Check]:
    """All checks, one after the other; what can be mended is, if ``fix``."""
    yield Check(
        name="version",
        ok=True,
        found=f"flex-assist {__version__}, Python {platform.python_version()}, {sys.platform}",
    )
    # Also the repository's own file, where one stands in a repository.
    root = find_root(Path.cwd(), locations)
    yield _attempt(
        "settings", lambda: f"read, base model {config.load(locations, root).model.base}"
    )
    yield _attempt("base model", lambda: str(store.find(config.load(locations).model.base).path))
    for name, fault in installed.faults(locations):
        yield Check(name=f"model {name}", ok=False, found="cannot be used", advice=fault)
    yield _attempt("engine", lambda: _engine(config.load(locations).model.base))
    yield _backends()
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        yield Check(
            name=f"extra {extra}",
            ok=not missing,
            found="installed" if not missing else f"without {', '.join(missing)}",
            advice=how_to_install(extra),
        )
    yield _writable(locations.data)
    yield _space(locations.data)
    yield Check(
        name="git",
        ok=shutil.which("git") is not None,
        found=shutil.which("git") or "not found",
        advice="install git: ignore rules and history are then read as git does",
    )
    yield from _adapters(locations, fix)
    # It loads what speaks to engines.
    from flex_assist.cli import doctor_remote

    for name, found, fault in doctor_remote.servers(locations):
        yield Check(name=f"server of {name}", ok=not fault, found=found, advice=fault)
    yield from _socket(locations, fix)


def _adapters(locations: Locations, fix: bool) -> Iterator[Check]:
    """The adapters of all repositories: one check each for what is wrong, or one for all."""
    from flex_assist.adapters import health

    try:
        findings = list(health.look(locations, fix=fix))
    except (FlexAssistError, OSError) as error:
        yield Check(name="adapters", ok=False, found="cannot be looked at", advice=str(error))
        return
    for one in findings:
        done = f" ({one.done})" if one.done else ""
        found = f"{one.path}: {one.what}{done}"
        yield Check(name="adapters", ok=bool(one.done), found=found, advice=one.advice)
    if not findings:
        registries = health.registries(locations)
        versions = sum(len(one.folders()) for one in registries)
        found = f"{versions} versions of {len(registries)} repositories"
        yield Check(name="adapters", ok=True, found=found)


def _socket(locations: Locations, fix: bool) -> Iterator[Check]:
    """A socket that a killed host left."""
    from flex_assist.engine.rendezvous import rendezvous

    meeting = rendezvous(locations)
    if meeting.identity() is None:
        return
    try:
        with exclusive(meeting.host_lock, what="the engine host"):
            if fix:
                meeting.withdraw()
    except BusyError:
        # A host serves.
        return
    left = f"{meeting.socket} was left by a host that was killed"
    yield Check(
        name="engine socket",
        ok=fix,
        found=f"{left} (removed)" if fix else left,
        advice="flex-assist doctor --fix",
    )


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, found=look())
    except FlexAssistError as error:
        return Check(name=name, ok=False, found="failed", advice=str(error))


def _engine(base: str) -> str:
    from flex_assist.engine import llama, trial

    trial.check(store.find(base).path)

    version = importlib.metadata.version("llama-cpp-python")
    return f"llama-cpp-python {version} ({llama.features()})"


def _backends() -> Check:
    """What the installed llama.cpp computes on, and how to build it for a GPU if it has none."""
    try:
        from flex_assist.engine import devices
    except ImportError as error:
        return Check(name="backends", ok=False, found="unknown", advice=f"llama.cpp: {error}")
    names, gpus = devices.backends(), [one for one in devices.devices() if one.gpu]
    if gpus:
        free = ", ".join(f"{one.description} ({one.free_bytes / 1e9:.1f} GB free)" for one in gpus)
        return Check(name="backends", ok=True, found=f"{', '.join(names)}: {free}")
    return Check(
        name="backends",
        ok=True,
        found=f"{', '.join(names)}, no GPU. To build llama.cpp for one:",
        choices=devices.rebuild_commands(),
    )


def _writable(folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return Check(
        name="data folder",
        ok=os.access(existing, os.W_OK),
        found=str(folder),
        advice=f"make {str(existing)!r} writable, or set FLEX_ASSIST_HOME to another folder",
    )


def _space(folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    return Check(
        name="disk",
        ok=free_gb >= LEAST_FREE_GB,
        found=f"{free_gb:.1f} GB free",
        advice=f"free {LEAST_FREE_GB:.0f} GB, or set FLEX_ASSIST_HOME to another disk",
    )

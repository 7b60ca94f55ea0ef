"""``flex-assist bench adapt``: is what an adapter gains due to its repository, and what leaks?

Everything happens on copies of what git would show, in a home of their own that is thrown away:
nothing of the repositories or of the user's adapters changes. One adapter is trained on the
repository, in which a key was planted (``canary``), and one on another repository. Both are asked
for the same held-out text of the first: the right one must gain more than the wrong one.
"""

import asyncio
import os
import random
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flex_assist import config, files
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.router import SHARED, Route
from flex_assist.cli.output import say
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.errors import DataError
from flex_assist.locations import Locations, below, locate, private_directory
from flex_assist.models import store
from flex_assist.processes import own_command
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import take_snapshot
from flex_assist.repository.walk import list_repository
from flex_trainer import gate_windows
from flex_trainer.bench import canary
from flex_trainer.bench.canary import Exposure, Keys
from flex_trainer.gate_windows import Bits
from flex_trainer.time_limit import TimeLimit

# What is trained on as the other repository where none is given.
PACKAGES = (
    "asyncio", "concurrent", "email", "html", "http", "importlib", "json", "logging", "sqlite3",
    "unittest", "urllib", "wsgiref", "xml", "zoneinfo",
)  # fmt: skip
# Tokens of held-out text that base, right and wrong adapter are asked for.
WINDOW_TOKENS = 16_384
# Exit codes of ``adapt`` that leave an adapter: promoted, or trained only.
TRAINED = (0, 3)
BASE, RIGHT, WRONG = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlBench:
    """What is compared.

    Attributes:
        other: The wrong repository; None takes packages of Python's standard library.
        budget_s: Of each of the two runs of ``adapt``.
    """

    root: Path
    other: Path | None
    budget_s: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One language: bits per byte of held-out text, with 95 % intervals of the differences.

    Attributes:
        verdict: Of the right adapter's gate.
        wrong_adapter: The other repository's adapter that was asked.
    """

    base: float
    right: float
    wrong: float
    right_ci95: tuple[float, float]
    wrong_ci95: tuple[float, float]
    right_less_wrong_ci95: tuple[float, float]
    windows: int
    files: int
    verdict: str
    wrong_adapter: str

    @property
    def holds(self) -> bool:
        """Whether the right adapter gains more than the wrong one, beyond noise."""
        return self.right_less_wrong_ci95[1] < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """What the two runs left.

    Attributes:
        planted: Paths of files with the key: they are not measured on.
    """

    root: Path
    wrong: dict[str, AdapterVersion]
    right: dict[str, AdapterVersion]
    settings: Settings
    model: Path
    planted: frozenset[str]
    keys: Keys | None


def compare(options: ControlBench, settings: Settings) -> dict[str, Any]:
    """Train both, and measure.

    Raises:
        DataError: A repository has too little code, or a run failed.
        ConfigError: The budget is too short.
    """
    with tempfile.TemporaryDirectory(prefix="flex-assist-bench-") as name:
        folder = Path(name).resolve()
        trained = _trained(options, settings, folder)
        controls, exposed = asyncio.run(_measured(options, trained))
    if not controls:
        raise DataError("no language has held-out text and adapters of both repositories")
    return {
        "repository": str(options.root),
        "other": str(options.other) if options.other else "Python's standard library",
        "base_model": store.name_of(settings.model.base),
        "budget_s": options.budget_s,
        "seed": options.seed,
        "languages": {name: _record(one) for name, one in controls.items()},
        "canary": _canary_record(exposed) if exposed else None,
        "verdict": sentence(controls, exposed),
        "holds": holds(controls, exposed),
    }


def holds(controls: dict[str, Control], exposed: Exposure | None) -> bool:
    """Whether all controls come out as they should."""
    return all(one.holds for one in controls.values()) and (exposed is None or exposed.holds)


def sentence(controls: dict[str, Control], exposed: Exposure | None) -> str:
    """What can be said."""
    said = []
    for name, one in controls.items():
        low, high = one.right_less_wrong_ci95
        gains = (one.base - one.right, one.base - one.wrong)
        said.append(
            f"{name}: the right adapter gains {gains[0]:.3f} bits per byte and the wrong "
            f"repository's {gains[1]:.3f} (95 % interval of right - wrong [{low:+.3f}, "
            f"{high:+.3f}]), " + ("so the gain is the repository's" if one.holds else "so these "
            "runs cannot show that the gain is the repository's")
        )  # fmt: skip
    if exposed is None:
        said.append("no key was planted: there is no Python file or no adapter for it")
    else:
        known = "is not" if exposed.holds else "IS"
        said.append(
            f"the planted key {known} known better than keys it never saw (z {exposed.z:+.2f}, "
            f"rank {exposed.rank} of {exposed.keys})"
        )
    return "; ".join(said) + "."


def copy(root: Path, target: Path, submodules: bool) -> Path:
    """Copy what git would show of a repository; links and what must not be read stay behind."""
    for entry in list_repository(root, submodules=submodules).entries:
        source = root / entry.path
        if entry.objection is None and not source.is_symlink() and source.is_file():
            place = target / entry.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
    target.mkdir(exist_ok=True)
    return target


def standard_library(target: Path) -> Path:
    """Copy some packages of Python's standard library: a repository that everybody has.

    Raises:
        DataError: Python came without their sources.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    for name in PACKAGES:
        for source in sorted((folder / name).rglob("*.py")):
            place = target / source.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
    if not target.is_dir():
        raise DataError(f"{str(folder)!r} has no sources to train on; give another --other")
    return target


def _trained(options: ControlBench, settings: Settings, folder: Path) -> _Trained:
    submodules = settings.mining.submodules
    home, rng = below(folder / "home"), random.Random(f"{options.seed}:canary")
    root = copy(options.root, folder / "repository", submodules)
    target = folder / "other"
    other = copy(options.other, target, submodules) if options.other else standard_library(target)
    keys, planted = canary.draw(rng), set[Path]()
    if any(root.rglob("*.py")):
        planted = canary.plant(root, keys.planted, rng)
    _take_settings(home)
    base = store.find(settings.model.base)
    name = settings.model.base if base.entry else str(base.path)
    say(f"training on a copy of {str(options.root)!r}")
    right = _adapters(root, home, name, options)
    say("training on the other repository")
    wrong = _adapters(other, home, name, options)
    used = config.load(home, root, {"model.base": name})
    return _Trained(
        root=root,
        right=right,
        wrong=wrong,
        settings=used,
        model=store.serving_path(name, home),
        planted=frozenset(path.relative_to(root).as_posix() for path in planted),
        keys=keys if planted else None,
    )


def _take_settings(home: Locations) -> None:
    """The user's own settings count in the home that is thrown away, too."""
    source = locate().config_file
    if source.is_file():
        private_directory(home.config)
        files.write_text_atomically(home.config_file, source.read_text(encoding="utf-8"))


def _adapters(
    root: Path, home: Locations, base: str, options: ControlBench
) -> dict[str, AdapterVersion]:
    """The adapters that ``adapt`` makes of a repository, promoted or not, by name."""
    command = own_command(
        "flex_assist", "adapt", str(root), "--budget", f"{options.budget_s:.0f}s", "--base", base,
        "--seed", str(options.seed), "--json",
    )  # fmt: skip
    environment = {**os.environ, "FLEX_ASSIST_HOME": str(home.data.parent)}
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=False)
    if done.returncode not in TRAINED:
        raise DataError(
            f"adapt on {str(root)!r} ended with exit code {done.returncode}; its message stands "
            "above"
        )
    registry = Registry(home, root)
    return {name: registry.versions(name)[-1] for name in registry.names()}


async def _measured(
    options: ControlBench, trained: _Trained
) -> tuple[dict[str, Control], Exposure | None]:
    engine = LocalEngine(trained.settings.engine)
    snapshot = take_snapshot(trained.root, trained.settings.mining, seed=options.seed)
    try:
        controls = {}
        for name, right in trained.right.items():
            wrong = _counterpart(name, trained.wrong)
            held_out = [
                document
                for document in snapshot.of(right.manifest.languages).test
                if document.path not in trained.planted
            ]
            bits = await _bits(engine, trained, (right, wrong), held_out, options)
            if bits.windows:
                controls[name] = _control(bits, right, wrong, options.seed)
        return controls, await _exposed(engine, trained)
    finally:
        await engine.close()


def _counterpart(name: str, wrong: dict[str, AdapterVersion]) -> AdapterVersion:
    """The other repository's adapter of the same name; else the shared one, else any."""
    return next((wrong[one] for one in (name, SHARED) if one in wrong), next(iter(wrong.values())))


async def _bits(
    engine: LocalEngine,
    trained: _Trained,
    adapters: Sequence[AdapterVersion],
    held_out: Sequence[Document],
    options: ControlBench,
) -> Bits:
    now_s = time.monotonic()
    windows = await gate_windows.draw(
        engine, trained.model, held_out, tokens=WINDOW_TOKENS, seed=options.seed
    )
    routes = [Route(name="base", reason="measured"), *map(_route, adapters)]
    return await gate_windows.measure(
        engine,
        [route.weights(trained.model) for route in routes],
        windows,
        TimeLimit(until_s=now_s + options.budget_s, last_s=now_s + 2 * options.budget_s),
    )


def _route(version: AdapterVersion) -> Route:
    return Route(name=version.manifest.name, reason="measured", adapters=(version.lora,))


def _control(bits: Bits, right: AdapterVersion, wrong: AdapterVersion, seed: int) -> Control:
    return Control(
        base=round(bits.per_byte(BASE), 4),
        right=round(bits.per_byte(RIGHT), 4),
        wrong=round(bits.per_byte(WRONG), 4),
        right_ci95=_ends(bits, BASE, RIGHT, seed),
        wrong_ci95=_ends(bits, BASE, WRONG, seed),
        right_less_wrong_ci95=_ends(bits, WRONG, RIGHT, seed),
        windows=len(bits.windows),
        files=bits.files,
        verdict=right.manifest.verdict,
        wrong_adapter=wrong.manifest.name,
    )


def _ends(bits: Bits, before: int, after: int, seed: int) -> tuple[float, float]:
    low, high = bits.ci95(before, after, seed)
    return round(low, 4), round(high, 4)


async def _exposed(engine: LocalEngine, trained: _Trained) -> Exposure | None:
    adapter = _for_python(trained.right.values())
    if trained.keys is None or adapter is None:
        return None
    weights = (
        Route(name="base", reason="measured").weights(trained.model),
        _route(adapter).weights(trained.model),
    )
    return await canary.exposure(engine, *weights, trained.keys)


def _for_python(adapters: Collection[AdapterVersion]) -> AdapterVersion | None:
    return next((one for one in adapters if "python" in one.manifest.languages), None)


def _canary_record(exposed: Exposure) -> dict[str, Any]:
    return {"copies": canary.COPIES, **asdict(exposed), "holds": exposed.holds}


def _record(one: Control) -> dict[str, Any]:
    record = asdict(one)
    bits = {name: record.pop(name) for name in ("base", "right", "wrong")}
    return {"bits_per_byte": bits, **record, "holds": one.holds}

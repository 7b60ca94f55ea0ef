"""Settings: defaults < the user's file < the repository's file < environment < flags.

Each setting is a dataclass field; its help text and unit live in the field's metadata, from which
the command line, the documentation and the editors' schemas are made. A repository is not trusted:
its ``.flexassist.toml`` may set only what is marked ``repository=True``. Which server completes for
a repository stands in the user's file alone (``remote_settings``).
"""

import dataclasses
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from flex_assist.errors import ConfigError
from flex_assist.locations import Locations
from flex_assist.remote_settings import NO_REMOTE, RemoteSettings, read_remotes
from flex_assist.remote_settings import SECTION as REMOTE
from flex_assist.setting import check, setting

REPOSITORY_FILE = ".flexassist.toml"
ENVIRONMENT_PREFIX = "FLEX_ASSIST_"
# Settings are short; a larger file is something else.
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which base model is adapted and served."""

    base: str = setting(
        "smollm2-135m", "base model: a name of `flex-assist models list`, or a path to a GGUF file"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The engine host."""

    context_tokens: int = setting(2048, "tokens of context of each model", low=256, high=131072)
    threads: int = setting(0, "threads for computing; 0 takes the machine's cores", low=0, high=512)
    gpu_layers: int = setting(-1, "layers on the GPU; -1 takes all that fit", low=-1, high=1000)
    idle_exit_s: float = setting(900.0, "seconds without a request before the host exits", low=1)
    idle_unload_s: float = setting(
        300.0, "seconds without a request before the host frees its models", low=0.1
    )
    start_timeout_s: float = setting(30.0, "seconds to wait for the host to start", low=1)
    form: str = setting(
        "auto",
        "adapters over the base, or the file in which base and adapter are merged; auto takes the "
        "merged one where it fits into memory and was measured to be faster",
        choices=("auto", "adapter", "merged"),
    )
    memory_mb: int = setting(
        0, "most memory for merged files, in MB; 0 takes half of what is free", low=0
    )
    prefixes_mb: int = setting(
        128, "most memory for prompts of files that are open beside the current one, in MB", low=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    """How a prompt is put together; training and serving share these."""

    prefix_tokens: int = setting(384, "tokens before the cursor", low=32, high=32768)
    suffix_tokens: int = setting(128, "tokens after the cursor", low=0, high=32768)
    retrieval_tokens: int = setting(
        256, "tokens of code from other files; 0 turns it off", low=0, high=32768, repository=True
    )
    retrieval_chunks: int = setting(3, "pieces of other files", low=0, high=32, repository=True)
    edited_spans: int = setting(1, "pieces of other files that were edited last", low=0, high=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionSettings:
    """Completions in the editor."""

    enabled: bool = setting(True, "offer completions", repository=True)
    debounce_ms: int = setting(60, "milliseconds to wait after a key", low=0, high=5000)
    max_tokens: int = setting(128, "longest completion, in tokens", low=1, high=1024)
    timeout_s: float = setting(
        10.0, "seconds before an editor gives a completion up", low=0.1, high=600
    )
    first_answer_ms: int = setting(
        250,
        "milliseconds after which the first lines of a longer completion are shown, while the rest "
        "is computed on; 0 waits for all of it",
        low=0,
        high=60000,
    )
    ahead_share: float = setting(
        0.15,
        "most computing for the next completion while one is shown, as a share of the time; 0 does "
        "none",
        low=0,
        high=1,
    )
    disabled_languages: tuple[str, ...] = setting(
        (), "languages without completions", repository=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningSettings:
    """What of a repository becomes training data."""

    held_out_share: float = setting(
        0.1, "share of the files kept for measuring", low=0.02, high=0.5, repository=True
    )
    max_file_kib: int = setting(1024, "larger files are left out (KiB)", low=1, high=65536)
    submodules: bool = setting(False, "learn from submodules that are checked out, too")
    denied_licences: tuple[str, ...] = setting(
        ("AGPL", "GPL", "SSPL", "BUSL", "CC-BY-NC"),
        "files under these licences are left out, unless it is the repository's own",
    )
    evidence_files: int = setting(
        20, "files below which a language shares an adapter", low=1, high=100000
    )
    evidence_tokens: int = setting(
        15000, "training tokens below which a language shares an adapter", low=1, high=10**9
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How adapters are trained."""

    budget: str = setting("8m", "time for the whole of adapt, e.g. 90s, 8m, 1h")
    optimizer: str = setting("sophia", "optimizer", choices=("sophia", "adamw"))
    regularizer: str = setting(
        "spectral",
        "regularizer of the update",
        choices=("spectral", "paper", "activation", "l2", "permuted", "none"),
    )
    rank: int = setting(16, "rank of the update", low=1, high=256)
    learning_rate: float = setting(0.0, "peak learning rate; 0 takes the optimizer's", low=0)
    epochs: float = setting(3.0, "most passes over the data", low=0.01, high=100)
    common_share: float = setting(
        0.5,
        "with several adapters: the share of each one's steps that trains a common one first, from "
        "which all go on; 0, or the regularizer activation, trains each alone",
        low=0,
        high=0.9,
    )
    instruction_share: float = setting(
        0.06,
        "share of the tokens of a pass that are questions about the repository with their answers, "
        "for the chat; 0 turns them off",
        low=0,
        high=0.5,
    )
    steps: int = setting(0, "steps of each adapter; 0 plans them by the budget", low=0)
    memory_mb: int = setting(0, "most memory to plan with, in MB; 0 takes what is free", low=0)
    parallel: str = setting(
        "data",
        "what several processes share: each step's data, that and the base's weights, or the "
        "languages",
        choices=("data", "sharded", "languages"),
    )
    threads: int = setting(0, "threads for training; 0 takes the machine's cores", low=0, high=512)
    seed: int = setting(0, "seed of the split, the samples and the weights", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """When `flex-assist watch` adapts again."""

    changed_files: int = setting(30, "new or changed files that are enough to adapt again", low=1)
    changed_share: float = setting(
        0.1, "share of the code, in characters, that is enough as well", low=0.0001, high=1
    )
    quiet_s: float = setting(60.0, "seconds without a change before files are looked at", low=0)
    min_interval_s: float = setting(3600.0, "least seconds from one run to the next", low=0)
    when_idle: bool = setting(True, "only while nobody else uses the machine")
    idle_s: float = setting(120.0, "seconds for which the machine is idle before a run", low=0)
    idle_cores: float = setting(0.5, "cores that others may use on an idle machine", low=0)
    on_mains: bool = setting(True, "not on battery, where there is one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """The terminal chat."""

    max_tokens: int = setting(512, "longest answer, in tokens", low=1, high=32768)
    temperature: float = setting(0.2, "0 always takes the likeliest token", low=0, high=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """What is kept on the disk."""

    adapters_mb: int = setting(
        20000,
        "most MB for the adapters of a repository; beyond, the oldest inactive versions go",
        low=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one run."""

    model: ModelSettings = ModelSettings()
    engine: EngineSettings = EngineSettings()
    prompt: PromptSettings = PromptSettings()
    completion: CompletionSettings = CompletionSettings()
    mining: MiningSettings = MiningSettings()
    training: TrainingSettings = TrainingSettings()
    watch: WatchSettings = WatchSettings()
    chat: ChatSettings = ChatSettings()
    storage: StorageSettings = StorageSettings()
    remote: RemoteSettings = NO_REMOTE


def sections() -> dict[str, type]:
    """Section name to its dataclass, in the order of the file."""
    hints = get_type_hints(Settings)
    return {field.name: hints[field.name] for field in dataclasses.fields(Settings)}


def load(
    locations: Locations,
    repository: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    flags_source: str = "command line",
) -> Settings:
    """Read all layers and check every value.

    Args:
        repository: The root whose ``.flexassist.toml`` counts, if any.
        flags: ``{"section.key": value}``; None values are not given.
        environment: Defaults to the process's own.
        flags_source: Where the flags come from, for messages.

    Raises:
        ConfigError: All faults found, one a line, each with its source and key.
    """
    faults: list[str] = []
    layer = _read(locations.config_file)
    remotes = read_remotes(layer.pop(REMOTE, {}), str(locations.config_file), faults)
    settings = _overlay(Settings(), layer, str(locations.config_file), faults)
    if repository is not None:
        remote = remotes.get(repository.resolve(), settings.remote)
        settings = dataclasses.replace(settings, remote=remote)
        path = repository / REPOSITORY_FILE
        layer = _read(path, follow=False)
        settings = _overlay(settings, layer, str(path), faults, repository_only=True)
    env = os.environ if environment is None else environment
    settings = _overlay(settings, _from_environment(env), "environment", faults, texts=True)
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    settings = _overlay(settings, _nest(given), flags_source, faults)
    if faults:
        raise ConfigError("\n".join(faults))
    return settings


def remotes(locations: Locations) -> dict[Path, RemoteSettings]:
    """The servers that the user's file opts in to, by the repository's resolved root.

    Raises:
        ConfigError: All faults found, one a line.
    """
    faults: list[str] = []
    found = read_remotes(
        _read(locations.config_file).get(REMOTE, {}), str(locations.config_file), faults
    )
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def as_dict(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings as plain data, e.g. for JSON."""
    return dataclasses.asdict(settings)


def _read(path: Path, *, follow: bool = True) -> dict[str, Any]:
    """The tables of a file; none without one. ``follow`` no links in what is not trusted."""
    try:
        if not stat.S_ISREG(path.stat(follow_symlinks=follow).st_mode):
            raise ConfigError(f"{path} is not a file of its own. Replace or remove it")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than settings can be. Mend or remove it")
        return tomllib.loads(data.decode())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    # ValueError: not TOML, not UTF-8, or a number of thousands of digits.
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Mend or remove it") from error


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        section, _, key = dotted.partition(".")
        nested.setdefault(section, {})[key] = value
    return nested


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    flat = {}
    for section, kind in sections().items():
        for field in dataclasses.fields(kind):
            name = f"{ENVIRONMENT_PREFIX}{section}_{field.name}".upper()
            if name in environment:
                flat[f"{section}.{field.name}"] = environment[name]
    return _nest(flat)


def _overlay(
    settings: Settings,
    layer: dict[str, Any],
    source: str,
    faults: list[str],
    *,
    repository_only: bool = False,
    texts: bool = False,
) -> Settings:
    known = sections()
    changed: dict[str, Any] = {}
    for section, values in layer.items():
        if section not in known or not isinstance(values, dict):
            faults.append(f"{source}: unknown section {section!r}; known: {', '.join(known)}")
            continue
        if section == REMOTE:
            faults += [
                f"{source}: {section}.{key} may not be set by a repository, the environment or an "
                "editor; name the repository in your own file"
                for key in values
            ]
            continue
        fields = {field.name: field for field in dataclasses.fields(known[section])}
        hints = get_type_hints(known[section])
        accepted = {}
        for key, value in values.items():
            where = f"{source}: {section}.{key}"
            if key not in fields:
                faults.append(f"{where} is unknown; known: {', '.join(fields)}")
            elif repository_only and not fields[key].metadata["repository"]:
                faults.append(f"{where} may not be set by a repository; put it in your own file")
            else:
                try:
                    accepted[key] = check(value, hints[key], fields[key].metadata, texts)
                except (TypeError, ValueError, OverflowError) as error:
                    faults.append(f"{where} = {value!r}: {error}")
        changed[section] = dataclasses.replace(getattr(settings, section), **accepted)
    return dataclasses.replace(settings, **changed)

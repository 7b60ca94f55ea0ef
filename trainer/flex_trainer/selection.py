"""Which adapters a run trains: one for each language with enough code, one shared by the others."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flex_assist.adapters.router import SHARED
from flex_assist.config import MiningSettings
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot

# Below this nothing can be learnt, pooled or not.
LEAST_TOKENS = 2000
LEAST_TRAIN_FILES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageCounts:
    """How much there is of a language."""

    files: int
    train_tokens: int
    held_out_files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """A language of the shared adapter.

    Attributes:
        why: It has no adapter of its own, in words.
    """

    files: int
    train_tokens: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterTask:
    """One adapter to train.

    Attributes:
        name: A language, or ``shared``.
        pool: Of the shared adapter, by language.
        without: The run's languages that get no adapter at all, and why: each manifest tells it,
            so that it can be asked for after the run.
    """

    name: str
    languages: tuple[str, ...]
    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    tokens: int
    pool: dict[str, Pooled] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All adapters of a run, and why the other languages get none."""

    tasks: tuple[AdapterTask, ...]
    counts: dict[str, LanguageCounts]
    too_little: dict[str, str]


def select(snapshot: Snapshot, settings: MiningSettings, count: Callable[[str], int]) -> Selection:
    """Choose what to train.

    Args:
        count: Tokens of a text.
    """
    train, held_out = snapshot.train_by_language(), snapshot.held_out_by_language()
    counts = {
        name: LanguageCounts(
            files=len(train[name]) + len(held_out[name]),
            train_tokens=sum(count(document.text) for document in train[name]),
            held_out_files=len(held_out[name]),
        )
        for name in snapshot.languages()
    }
    own = [
        name
        for name, found in counts.items()
        if found.files >= settings.evidence_files
        and found.train_tokens >= settings.evidence_tokens
        and found.held_out_files > 0
    ]
    rest = [name for name in counts if name not in own]
    tasks = [_task(name, (name,), snapshot, counts) for name in own]
    pooled = _task(SHARED, tuple(rest), snapshot, counts)
    too_little: dict[str, str] = {}
    if _enough(pooled):
        pool = {name: _pooled(counts[name], settings) for name in rest}
        tasks.append(replace(pooled, pool=pool))
    else:
        too_little = {name: _why(counts[name], settings) for name in rest}
        tasks = [replace(task, without=too_little) for task in tasks]
    return Selection(tasks=tuple(tasks), counts=counts, too_little=too_little)


def _task(
    name: str, languages: tuple[str, ...], snapshot: Snapshot, counts: dict[str, LanguageCounts]
) -> AdapterTask:
    return AdapterTask(
        name=name,
        languages=languages,
        train=tuple(d for d in snapshot.train if d.language in languages),
        held_out=tuple(d for d in snapshot.held_out if d.language in languages),
        tokens=sum(counts[language].train_tokens for language in languages),
    )


def _enough(task: AdapterTask) -> bool:
    return (
        task.tokens >= LEAST_TOKENS
        and len(task.train) >= LEAST_TRAIN_FILES
        and len(task.held_out) > 0
    )


def _why(found: LanguageCounts, settings: MiningSettings) -> str:
    return (
        f"{found.files} files and {found.train_tokens} training tokens are too little "
        f"({settings.evidence_files} files and {settings.evidence_tokens} tokens for an adapter of "
        f"its own, {LEAST_TRAIN_FILES + 1} files and {LEAST_TOKENS} tokens for a shared one)"
    )


def _pooled(found: LanguageCounts, settings: MiningSettings) -> Pooled:
    """What of the evidence for an adapter of its own is missing."""
    missing = []
    if found.files < settings.evidence_files:
        missing.append(f"{found.files} of the {settings.evidence_files} files")
    if found.train_tokens < settings.evidence_tokens:
        missing.append(f"{found.train_tokens} of the {settings.evidence_tokens} training tokens")
    if found.held_out_files == 0:
        missing.append("no file to measure on")
    return Pooled(
        files=found.files,
        train_tokens=found.train_tokens,
        why=f"too little for an adapter of its own: {', '.join(missing)}",
    )

"""Which adapters a run trains: one for each language with enough code, one shared by the others."""

from collections.abc import Callable
from dataclasses import dataclass

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
class AdapterTask:
    """One adapter to train.

    Attributes:
        name: A language, or ``shared``.
    """

    name: str
    languages: tuple[str, ...]
    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    tokens: int


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
        tasks.append(pooled)
    else:
        too_little = {name: _why(counts[name], settings) for name in rest}
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

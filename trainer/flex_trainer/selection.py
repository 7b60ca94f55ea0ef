"""Which adapters a run trains: one for each language with enough code, one shared by the others."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flex_assist.adapters.router import SHARED
from flex_assist.config import MiningSettings
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot
from flex_assist.repository.split import LEAST_TEST_FILES

# Below this nothing can be learnt, pooled or not.
LEAST_TOKENS = 2000
LEAST_TRAIN_FILES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageCounts:
    """How much there is of a language."""

    files: int
    train_tokens: int
    held_out_files: int
    test_files: int


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
        tune: For decisions on the way, never trained on.
        test: For the gate, never looked at before.
        pool: Of the shared adapter, by language.
        without: The run's languages that get no adapter at all, and why: each manifest tells it,
            so that it can be asked for after the run.
    """

    name: str
    languages: tuple[str, ...]
    train: tuple[Document, ...]
    tune: tuple[Document, ...]
    test: tuple[Document, ...]
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
    counts = {name: _count(snapshot.of((name,)), count) for name in snapshot.languages()}
    own = [
        name
        for name, found in counts.items()
        if found.files >= settings.evidence_files
        and found.train_tokens >= settings.evidence_tokens
        and found.test_files >= LEAST_TEST_FILES
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


def _count(part: Snapshot, count: Callable[[str], int]) -> LanguageCounts:
    return LanguageCounts(
        files=len(part.documents()),
        train_tokens=sum(count(document.text) for document in part.train),
        held_out_files=len(part.tune) + len(part.test),
        test_files=len(part.test),
    )


def _task(
    name: str, languages: tuple[str, ...], snapshot: Snapshot, counts: dict[str, LanguageCounts]
) -> AdapterTask:
    part = snapshot.of(languages)
    return AdapterTask(
        name=name,
        languages=languages,
        train=part.train,
        tune=part.tune,
        test=part.test,
        tokens=sum(counts[language].train_tokens for language in languages),
    )


def _enough(task: AdapterTask) -> bool:
    return (
        task.tokens >= LEAST_TOKENS
        and len(task.train) >= LEAST_TRAIN_FILES
        and len(task.test) >= LEAST_TEST_FILES
    )


def _why(found: LanguageCounts, settings: MiningSettings) -> str:
    return (
        f"{found.files} files ({found.test_files} of them to test on) and {found.train_tokens} "
        f"training tokens are too little: an adapter of its own needs {settings.evidence_files} "
        f"files ({LEAST_TEST_FILES} to test on) and {settings.evidence_tokens} tokens; what "
        f"shares one must have {LEAST_TEST_FILES} files to test on and {LEAST_TOKENS} tokens"
    )


def _pooled(found: LanguageCounts, settings: MiningSettings) -> Pooled:
    """What of the evidence for an adapter of its own is missing."""
    missing = []
    if found.files < settings.evidence_files:
        missing.append(f"{found.files} of the {settings.evidence_files} files")
    if found.train_tokens < settings.evidence_tokens:
        missing.append(f"{found.train_tokens} of the {settings.evidence_tokens} training tokens")
    if found.test_files < LEAST_TEST_FILES:
        missing.append(f"{found.test_files} of the {LEAST_TEST_FILES} files to test on")
    return Pooled(
        files=found.files,
        train_tokens=found.train_tokens,
        why=f"too little for an adapter of its own: {', '.join(missing)}",
    )

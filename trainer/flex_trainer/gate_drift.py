"""What an adapter forgets: its loss on texts that have nothing to do with the repository.

The texts are on every machine: code of Python's standard library, in windows drawn by the seed,
and questions about programming with short answers (``chat_answers.toml``), laid out as the chat
lays them out. Base and adapter read them in turn, without retrieval. How much worse an adapter may
be is stated here, in nats a token, as the mean over the texts; ``docs/log.md`` says what was seen.
"""

import random
import sysconfig
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import flex_assist
from flex_assist.chat.window import Exchange
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece, Weights
from flex_assist.evaluate.bootstrap import Interval, ratio_difference_ci95
from flex_trainer.corpus import UNLABELLED
from flex_trainer.dialogues import Dialogues
from flex_trainer.time_limit import TimeLimit

CHAT_FILE = "chat_answers.toml"
CODE_WINDOWS, CODE_TOKENS = 12, 192
# Of a file, in letters: enough for a window.
CODE_LETTERS = 1200
MOST_CHAT_TOKENS = 512
LEAST_TEXTS = 4
# Plain modules of the standard library, of many subjects.
MODULES = (
    "argparse.py", "bisect.py", "calendar.py", "cmd.py", "configparser.py", "contextlib.py",
    "copy.py", "csv.py", "dataclasses.py", "difflib.py", "fractions.py", "functools.py",
    "gettext.py", "glob.py", "heapq.py", "inspect.py", "ipaddress.py", "locale.py", "mailbox.py",
    "mimetypes.py", "optparse.py", "pathlib.py", "pprint.py", "queue.py", "random.py",
    "sched.py", "selectors.py", "shelve.py", "shlex.py", "shutil.py", "smtplib.py",
    "socketserver.py", "statistics.py", "string.py", "tarfile.py", "tempfile.py", "textwrap.py",
    "threading.py", "timeit.py", "tokenize.py", "traceback.py", "types.py", "uuid.py",
    "warnings.py", "weakref.py", "zipfile.py",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Tokens of which the ``labelled`` last ones are asked for."""

    tokens: tuple[int, ...]
    labelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Nats a token on the same texts, before and after.

    Attributes:
        ci95: Interval of adapted - base, over the texts.
        bound: How much more than the base's the adapter's loss may be.
    """

    base: float
    adapted: float
    ci95: Interval
    texts: int
    tokens: int
    bound: float

    @property
    def change(self) -> float:
        """Adapted - base; above zero something was forgotten."""
        return self.adapted - self.base

    @property
    def within(self) -> bool:
        """Whether the bound holds."""
        return self.change <= self.bound


async def code_texts(engine: LocalEngine, model: Path, seed: int) -> list[Text]:
    """Windows of the standard library, each of another module."""
    rng = random.Random(f"{seed}:generic code")
    sources = _sources()
    chosen = rng.sample(sources, min(CODE_WINDOWS, len(sources)))
    pieces = [TextPiece(text=_part(path, rng)) for path in chosen]
    ids = await engine.tokenize(model, pieces)
    windows = [tuple(tokens[:CODE_TOKENS]) for tokens in ids]
    return [Text(tokens=one, labelled=len(one) - 1) for one in windows if len(one) > 1]


async def chat_texts(engine: LocalEngine, model: Path) -> list[Text]:
    """Questions with their answers; none where the model knows no chat."""
    facts = await engine.facts(model)
    dialogues = Dialogues(facts, lambda pieces: engine.tokenize_now(model, pieces))
    if not dialogues.known:
        return []
    record = tomllib.loads(
        resources.files("flex_trainer").joinpath(CHAT_FILE).read_text(encoding="utf-8")
    )
    samples = (dialogues.sample(Exchange(**one), MOST_CHAT_TOKENS) for one in record["exchange"])
    return [
        Text(tokens=one.tokens, labelled=sum(label != UNLABELLED for label in one.labels))
        for one in samples
        if one is not None
    ]


async def measure(
    engine: LocalEngine,
    weights: tuple[Weights, Weights],
    texts: Sequence[Text],
    bound: float,
    limit: TimeLimit,
) -> Drift | None:
    """How the second weights do against the first on the texts that there is time for.

    Returns:
        None without texts.
    """
    losses: tuple[list[float], list[float]] = ([], [])
    for done, text in enumerate(texts):
        if limit.over(done, LEAST_TEXTS):
            break
        for one, values in zip(weights, losses, strict=True):
            (loss,) = await engine.score(one, [text.tokens])
            values.append(float(loss[-text.labelled :].sum()))
    if not losses[0]:
        return None
    counts = [text.labelled for text in texts[: len(losses[0])]]
    low, high = ratio_difference_ci95(*losses, counts)
    return Drift(
        base=round(sum(losses[0]) / sum(counts), 4),
        adapted=round(sum(losses[1]) / sum(counts), 4),
        ci95=(round(low, 4), round(high, 4)),
        texts=len(counts),
        tokens=sum(counts),
        bound=bound,
    )


def _sources() -> list[Path]:
    """Modules of the standard library; our own where it came without its sources."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = [folder / name for name in MODULES if (folder / name).is_file()]
    return found or sorted(Path(flex_assist.__file__).parent.rglob("*.py"))


def _part(path: Path, rng: random.Random) -> str:
    """Some lines from somewhere in a file."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    letters, first = 0, len(lines)
    while first > 0 and letters < CODE_LETTERS:
        first -= 1
        letters += len(lines[first])
    return "".join(lines[rng.randint(0, first) :])[:CODE_LETTERS]

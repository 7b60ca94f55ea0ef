"""What everything in a run is made with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flex_assist.adapters.registry import Registry
from flex_assist.config import Settings
from flex_assist.engine import giving_way
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.rendezvous import rendezvous
from flex_assist.locations import Locations
from flex_assist.models.fim import FimTokens
from flex_assist.models.store import BaseModel
from flex_assist.repository.documents import Document
from flex_assist.repository.history import Commit
from flex_trainer.budget import Budget
from flex_trainer.corpus import PLAIN_TOKENS, Corpus
from flex_trainer.dialogues import Dialogues
from flex_trainer.events import Listener
from flex_trainer.instructions import Instructions
from flex_trainer.parallel import Workers
from flex_trainer.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all adapters of a run are made with.

    Attributes:
        folder: Of the run: plan, checkpoints, outcomes.
        served: The base's file as it is served.
        commits: Of the repository's history, for questions about it.
        resume: Whether checkpoints are taken up.
        workers: Those that train one adapter together.
    """

    settings: Settings
    locations: Locations
    registry: Registry
    folder: Path
    budget: Budget
    base: BaseModel
    served: Path
    engine: LocalEngine
    vocabulary: Vocabulary
    fim: FimTokens
    commits: tuple[Commit, ...]
    resume: bool
    workers: Workers
    listen: Listener
    stop_asked: Callable[[], bool]

    def give_way(self) -> None:
        """Let completions in editors go first: they are computed on the same device."""
        giving_way.wait(rendezvous(self.locations).busy_file)

    def corpus(self, documents: Sequence[Document], seed: int) -> Corpus:
        """The samples that documents give."""
        questions = Instructions(
            documents,
            self.commits,
            Dialogues(self.vocabulary.facts(), self.vocabulary.encode_pieces),
            most_tokens=PLAIN_TOKENS,
            seed=seed,
        )
        return Corpus(
            documents,
            self.vocabulary.encode,
            self.fim,
            self.settings.prompt,
            seed,
            instructions=questions.samples,
            instruction_share=self.settings.training.instruction_share,
        )

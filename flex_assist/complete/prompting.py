"""From a question to the token ids that the model is asked with."""

from pathlib import Path

from flex_assist.complete.cache import files_of
from flex_assist.complete.context import RepositoryContext
from flex_assist.complete.explanation import Asked
from flex_assist.complete.private import without_secrets
from flex_assist.complete.question import Question
from flex_assist.config import Settings
from flex_assist.engine.protocol import Engine, TextPiece, Weights
from flex_assist.prompt.builder import MAX_BYTES_PER_TOKEN, Outline, assemble, fitted, outline

ENCODED_CHARACTERS_KEPT = 2_000_000


class Prompter:
    """Makes prompts in one repository; keeps the ids of texts that come again."""

    def __init__(self, engine: Engine, settings: Settings, context: RepositoryContext) -> None:
        self._engine = engine
        self._settings = settings
        self._context = context
        self._encoded: dict[str, list[int]] = {}
        self._encoded_for: tuple[object, ...] | None = None
        self._characters = 0

    async def prompt(self, question: Question) -> Asked:
        """The prompt of a cursor, and what it is made of.

        Raises:
            EngineError, ModelError: The engine cannot tokenize.
        """
        room = self._settings.engine.context_tokens - self._settings.completion.max_tokens
        settings = fitted(self._settings.prompt, room)
        language, path, around = question.language, question.path, question.around
        chunks = await self._context.chunks(
            around.before, around.after, path, language, question.request.edited
        )
        reach = max(settings.prefix_tokens, settings.suffix_tokens) * MAX_BYTES_PER_TOKEN
        before, after = without_secrets(around.before, around.after, reach)
        planned = outline(
            before, after, path=path, language=language, chunks=chunks, settings=settings
        )
        ids = await self._encode(planned, question.weights.model)
        prompt = assemble(planned, ids, question.route.fim, settings)
        return Asked(prompt=prompt, chunks=tuple(chunks), masked=before != around.before)

    async def _encode(self, planned: Outline, model: Path) -> list[list[int]]:
        texts, state = planned.texts(), (model, files_of(Weights(model=model)))
        if state != self._encoded_for or self._characters > ENCODED_CHARACTERS_KEPT:
            # Another file's vocabulary has other ids. Who still waits for some keeps the old ones.
            self._encoded, self._encoded_for, self._characters = {}, state, 0
        encoded = self._encoded
        missing = [text for text in dict.fromkeys(texts) if text not in encoded]
        if missing:
            pieces = [TextPiece(text=text) for text in missing]
            ids = await self._engine.tokenize(model, pieces)
            encoded.update(zip(missing, ids, strict=True))
            self._characters += sum(map(len, missing))
        return [encoded[text] for text in texts]

"""The state of one editor's session. Only this object changes it; handlers only translate."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from flex_assist.complete.edits import EditedSpan, span
from flex_assist.complete.region import at_cursor, first_language
from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.complete.root import adapted_root, find_root
from flex_assist.config import Settings
from flex_assist.errors import Cancelled, FlexAssistError
from flex_assist.locations import Locations
from flex_lsp import promotion, settings
from flex_lsp.document import Document, Edit, file_path, opened
from flex_lsp.edits import EditedLines
from flex_lsp.history import History, Outcome, Record, Surface
from flex_lsp.line_index import Encoding
from flex_lsp.scheduling import Newest, Superseded
from flex_lsp.services import Backend, Services
from flex_lsp.settings import EditorOptions
from flex_lsp.status import Status, StatusBoard

# What ``completion.disabled_languages`` calls a document in no language that we know.
UNKNOWN_LANGUAGE = "unknown"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A cursor in an open document.

    Attributes:
        before: The text up to the cursor, with a menu's selected item in place if there is one.
        after: The text from the cursor on.
        position: Line and character as the editor counts them.
        invoked: Asked for by hand: no waiting for more keys.
    """

    document: Document
    before: str
    after: str
    position: tuple[int, int]
    surface: Surface
    invoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What to show; ``text`` is empty when there is nothing to show."""

    identity: str
    text: str
    adapter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query, and what is asked for it.

    Attributes:
        identity: Of the suggestion, and of its record.
        root: The repository of the document.
    """

    identity: str
    query: Query
    root: Path | None
    request: CompletionRequest


class Session:
    """Documents, repositories, settings and running requests of one editor."""

    def __init__(self, *, locations: Locations, backend: Backend, board: StatusBoard) -> None:
        self.board = board
        self.history = History()
        self.encoding = Encoding.UTF16
        self.roots: tuple[Path, ...] = ()
        self.editor = EditorOptions()
        self._initial_options: object = None
        self._locations = locations
        self._services = Services(backend, self._load_settings)
        self._newest = Newest()
        self._documents: dict[str, Document] = {}
        self._edited = EditedLines()
        self._reported: set[str] = set()
        self._last: tuple[Path | None, CompletionRequest] | None = None
        self._background: set[asyncio.Task[None]] = set()

    # --- what the editor tells --------------------------------------------------------------

    def configure(self, initial: object, encoding: Encoding, roots: Iterable[Path]) -> None:
        """What ``initialize`` says."""
        self._initial_options = initial
        self.editor = settings.read_options(initial)
        self.encoding = encoding
        self.roots = tuple(roots)

    def reconfigure(self, options: object) -> None:
        """New options win over those of ``initialize``."""
        editor = settings.read_options(self._initial_options, options)
        if editor != self.editor:
            self.editor = editor
            self._services.reset()
            self.start(watch=False)

    def change_roots(self, added: Iterable[Path], removed: Iterable[Path]) -> None:
        """Folders of the workspace come and go."""
        gone = set(removed)
        kept = [root for root in self.roots if root not in gone]
        self.roots = tuple(dict.fromkeys([*kept, *added]))

    def open(self, uri: str, language_id: str | None, version: int, text: str) -> None:
        """A document is opened: the adapter of its language is loaded ahead."""
        self._documents[uri] = opened(uri, language_id, version, text)
        language = first_language(text, path=file_path(uri), language_id=language_id)
        root = self._place(uri)[0]
        if language is not None and self._off(root, language_id, language.name) is None:
            self._spawn(self._warm(root, language.name))

    def change(self, uri: str, version: int, edits: Iterable[Edit]) -> None:
        """The text of a document changes; what runs for the old text is given up."""
        document = self._documents.get(uri)
        if document is None:
            logger.warning("a change of a document that is not open was ignored")
            return
        edits = list(edits)
        changed = document.edited(edits, version, self.encoding)
        self._edited.note(changed, edits)
        self._documents[uri] = changed
        if changed.text != document.text:
            self._newest.supersede(uri)

    def close_document(self, uri: str) -> None:
        """A document is closed."""
        self._documents.pop(uri, None)
        self._edited.forget(uri)
        self._newest.supersede(uri)

    def document(self, uri: str) -> Document | None:
        """The newest snapshot of a document."""
        return self._documents.get(uri)

    # --- completing -------------------------------------------------------------------------

    async def suggest(self, query: Query) -> Suggestion | None:
        """A suggestion; None if a newer request or a change of the text took over."""
        asked = self._asked(query)
        request, root = asked.request, asked.root
        region = at_cursor(
            query.before, query.after, path=request.path, language_id=request.language_id
        )
        language = (region.outer or region).language
        off = self._off(root, request.language_id, language.name if language else None)
        if off is not None:
            return self._nothing(asked, "off", off)
        key = (query.document.uri, query.surface)
        if (known := self._recall(root, request)) is not None:
            # No waiting for more keys: it costs nothing.
            self._newest.stop(key)
            return self._answered(asked, known)
        self._last = (root, request)
        debounce_ms = self._services.settings(root).completion.debounce_ms
        delay_s = 0.0 if query.invoked else debounce_ms / 1000
        if delay_s:
            self._services.prepare(root, request)
        try:
            return await self._newest.run(key, delay_s, lambda: self._answer(asked))
        except Superseded:
            self._record(asked, "superseded")
            return None

    def _recall(self, root: Path | None, request: CompletionRequest) -> Completion | None:
        try:
            return self._services.recall(root, request)
        except FlexAssistError:
            # Who asks the model gets the error too, and tells it.
            return None

    async def _answer(self, asked: Asked) -> Suggestion:
        timeout_s = self._services.settings(asked.root).completion.timeout_s
        try:
            # A model that is still loading is no reason to give up: the editor would not ask again.
            loading = self.board.current.state in ("starting", "loading")
            async with asyncio.timeout(None if loading else timeout_s):
                completion = await (await self._services.get(asked.root)).complete(asked.request)
        except TimeoutError:
            return self._nothing(asked, "failed", f"gave up after {timeout_s:g} s")
        except Cancelled:
            return self._nothing(asked, "failed", "the engine withdrew the request")
        except FlexAssistError as error:
            self.board.error(str(error))
            return self._nothing(asked, "failed", str(error))
        except Exception as error:
            # The dispatch boundary: a fault of ours must not reach the editor with every key.
            logger.exception("a completion failed")
            self.board.error(f"a completion failed: {type(error).__name__}: see the server's log")
            # Its own words may hold the text of a document.
            note = f"a fault of ours, {type(error).__name__}: see the server's log"
            return self._nothing(asked, "failed", note)
        return self._answered(asked, completion)

    def _answered(self, asked: Asked, completion: Completion) -> Suggestion:
        self.board.ready(completion.language, completion.adapter, completion.reason)
        if completion.warning:
            self._report(completion.warning)
        outcome: Outcome = "shown" if completion.text.strip() else "nothing"
        self._record(asked, outcome, completion)
        text = completion.text if outcome == "shown" else ""
        return Suggestion(identity=asked.identity, text=text, adapter=completion.adapter)

    def _nothing(self, asked: Asked, outcome: Outcome, note: str) -> Suggestion:
        """Nothing to show, and why."""
        self._record(asked, outcome, note=note)
        return Suggestion(identity=asked.identity, text="")

    def _record(
        self, asked: Asked, outcome: Outcome, completion: Completion | None = None, note: str = ""
    ) -> None:
        query = asked.query
        line, character = query.position
        self.history.add(
            Record(
                identity=asked.identity, uri=query.document.uri, line=line, character=character,
                surface=query.surface, outcome=outcome, completion=completion, note=note,
                asked_at=time.time(), request=asked.request, root=asked.root,
            )
        )  # fmt: skip

    def _asked(self, query: Query) -> Asked:
        root, path = self._place(query.document.uri)
        completion = self._services.settings(root).completion
        request = CompletionRequest(
            before=query.before,
            after=query.after,
            path=path,
            language_id=query.document.language_id,
            trigger="invoked" if query.invoked else "automatic",
            first_answer_ms=completion.first_answer_ms or None,
            edited=tuple(self._edited_elsewhere(query.document.uri, root)),
        )
        identity = self.history.new_identity()
        return Asked(identity=identity, query=query, root=root, request=request)

    def _edited_elsewhere(self, uri: str, root: Path | None) -> Iterator[EditedSpan]:
        """Spans edited last in other documents of the same repository."""
        for other, lines in self._edited.newest() if root is not None else ():
            place, path = self._place(other)
            if other == uri or place != root or path is None:
                continue
            found = span(path, self._documents[other].text, lines.first, lines.last)
            if found is not None:
                yield found

    # --- what was asked before --------------------------------------------------------------

    async def repeat(self, identity: str | None = None) -> Record | None:
        """Ask the same again: of this record, or of the last one that was answered.

        Returns:
            The new record; None if there is no such record, or its text is not kept any more.
        """
        former = self.history.last(identity)
        if former is None or former.request is None or former.outcome == "off":
            return former if former and former.outcome == "off" else None
        completion, note = None, ""
        outcome: Outcome = "failed"
        try:
            service = await self._services.get(former.root)
            completion = await service.complete(
                replace(former.request, fresh=True, first_answer_ms=None)
            )
        except FlexAssistError as error:
            note = str(error)
        else:
            outcome = "shown" if completion.text.strip() else "nothing"
        record = replace(
            former, identity=self.history.new_identity(), outcome=outcome, completion=completion,
            note=note, accepted=False, asked_at=time.time(), repeats=former.identity,
        )  # fmt: skip
        self.history.add(record)
        return record

    def write_report(self) -> Path:
        """Write what is kept of the last requests into a file, without code and places."""
        # Imported here: the editor waits for the server's start.
        from flex_assist.complete.report import write_report

        last = self.history.last()
        settings = self._services.settings(last.root if last else None)
        records = [record.as_json() for record in self.history.all()]
        return write_report(records, settings, self._locations)

    # --- in the background ------------------------------------------------------------------

    def start(self, *, watch: bool = True) -> None:
        """After ``initialized``: load the model, and look out for new adapters."""
        for root in self.roots or (None,):
            self._spawn(self._warm(root, None))
        if watch:
            self._spawn(self._watch())

    async def close(self) -> None:
        """Stop what runs and let go of the engine."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._services.close()

    async def _warm(self, root: Path | None, language: str | None) -> None:
        if not self._services.settings(root).completion.enabled:
            self.board.set(Status(state="off", message="completions are turned off"))
            return
        if self.board.current.state == "starting":
            self.board.set(Status(state="loading", message="loading the model"))
        try:
            loaded = await self._services.warm(root, language)
        # OSError: the home cannot be written, or is full.
        except (FlexAssistError, OSError) as error:
            self.board.error(str(error))
        else:
            # Who began it before says when it is done.
            if loaded and self.board.current.state in ("loading", "error"):
                self.board.ready(None, None, "")

    async def _warm_again(self, root: Path, language: str | None) -> None:
        """Load a new adapter, and let it read what was asked last."""
        await self._warm(root, language)
        if self._last is not None and self._last[0] == root:
            self._services.prepare(*self._last)

    async def _watch(self) -> None:
        seen: dict[Path, frozenset[tuple[str, str]]] = {}
        while True:
            # A file may belong to a repository around or beside the folders that are open.
            for root in dict.fromkeys((*self.roots, *self._services.roots())):
                found = await asyncio.to_thread(promotion.active_versions, self._locations, root)
                if seen.setdefault(root, found) != found:
                    seen[root] = found
                    for language in self._services.promoted(root):
                        self._spawn(self._warm_again(root, language))
            await asyncio.sleep(promotion.POLL_INTERVAL_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work in the background failed", exc_info=error)
            self.board.error(f"{type(error).__name__}: {error}")

    # --- looking up -------------------------------------------------------------------------

    def _place(self, uri: str) -> tuple[Path | None, str | None]:
        """The repository of a document and its path there, as ``CompletionRequest`` wants it."""
        path = file_path(uri)
        if path is None:
            return (self.roots[0] if self.roots else None), None
        root = self._root_of(Path(path))
        if root is None:
            return None, path.as_posix()
        return root, PurePath(path).relative_to(root).as_posix()

    def _root_of(self, path: Path) -> Path | None:
        """The folder that was adapted, also where only a part of it is open; else the workspace's.

        A file outside of every workspace belongs to the repository that it lies in.
        """
        inside = [root for root in self.roots if path.is_relative_to(root)]
        if not inside:
            return find_root(path, self._locations)
        adapted = adapted_root(path, self._locations)
        return adapted or max(inside, key=lambda each: len(each.parts))

    def _off(self, root: Path | None, language_id: str | None, name: str | None) -> str | None:
        """Why there is no completion for a language by the settings; None if there is one."""
        completion = self._services.settings(root).completion
        if not completion.enabled:
            return "completion.enabled is false"
        for each in (name, language_id, None if name else UNKNOWN_LANGUAGE):
            if each is not None and each in completion.disabled_languages:
                return f"completion.disabled_languages has {each!r}"
        return None

    def _load_settings(self, root: Path | None) -> Settings:
        return settings.load(self._locations, root, self.editor, self._report)

    def _report(self, message: str) -> None:
        if message not in self._reported:
            self._reported.add(message)
            self.board.warn(message)

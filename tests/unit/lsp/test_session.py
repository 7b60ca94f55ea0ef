"""What the session does beside completing: states, places, warming, promotions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.config import Settings
from flex_assist.errors import Cancelled, ModelError
from flex_assist.locations import Locations, repository_id
from flex_lsp import promotion
from flex_lsp.document import Edit
from flex_lsp.line_index import Encoding
from flex_lsp.session import Query, Session
from flex_lsp.status import Status, StatusBoard

Told = list[Status | str]


class Model:
    """A backend and its services; notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[CompletionRequest] = []
        self.warmed: list[tuple[str | None, str | None]] = []
        self.refreshed = 0
        self.closed = False
        self.fault: Exception | None = None
        self.known: dict[str, Completion] = {}
        self.prepared: list[str] = []
        self.warning = ""

    async def prepare(self) -> None:
        await asyncio.sleep(0)

    def service(self, settings: Settings, root: Path | None) -> "ModelOfRoot":
        return ModelOfRoot(self, root)

    async def close(self) -> None:
        self.closed = True


class ModelOfRoot:
    """The service of one root."""

    def __init__(self, model: Model, root: Path | None) -> None:
        self.model = model
        self.root = root

    async def complete(self, request: CompletionRequest) -> Completion:
        self.model.asked.append(request)
        if self.model.fault is not None:
            raise self.model.fault
        return Completion(
            text="!", language="python", adapter="python", reason="it is active",
            warning=self.model.warning,
        )  # fmt: skip

    def recall(self, request: CompletionRequest) -> Completion | None:
        return self.model.known.get(request.before)

    def prepare(self, request: CompletionRequest) -> None:
        self.model.prepared.append(request.before)

    async def warm(self, language: str | None) -> None:
        self.model.warmed.append((self.root.name if self.root else None, language))
        if self.model.fault is not None:
            raise self.model.fault

    def refresh(self) -> None:
        self.model.refreshed += 1


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    return Locations(**{name: tmp_path / name for name in ("config", "data", "cache", "runtime")})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository."""
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.fixture
async def session(model: Model, told: Told, locations: Locations) -> AsyncIterator[Session]:
    board = StatusBoard(told.append, told.append)
    session = Session(locations=locations, backend=model, board=board)
    yield session
    await session.close()
    assert model.closed


async def settle(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not done():
            await asyncio.sleep(0.001)


def ask(session: Session, uri: str, *, invoked: bool = True) -> Awaitable[object]:
    document = session.document(uri)
    assert document is not None
    text = document.text
    query = Query(
        document=document, before=text, after="", position=(0, len(text)), surface="inline",
        invoked=invoked,
    )  # fmt: skip
    return session.suggest(query)


async def test_each_root_and_language_is_warmed_once(
    session: Session, model: Model, told: Told
) -> None:
    session.configure(None, Encoding.UTF8, [Path("/a"), Path("/b")])
    session.start(watch=False)
    for uri in ("file:///a/x.py", "file:///a/y.py", "file:///b/x.py", "file:///c/x.py"):
        session.open(uri, "python", 1, "")
    session.open("file:///a/z.cob", "cobol", 1, "")
    session.open("file:///a/z.vue", "vue", 1, "<p/>\n<script lang='ts'>\n</script>\n<style>")
    session.open("file:///a/y.vue", "vue", 1, "<p/>")
    await settle(lambda: len(model.warmed) >= 6)
    await asyncio.sleep(0.005)
    expected = [(None, "python"), ("a", "python"), ("a", None), ("b", "python"), ("b", None)]
    expected += [("a", "typescript")]
    assert sorted(model.warmed, key=str) == sorted(expected, key=str)
    assert [s.state for s in told if isinstance(s, Status)] == ["loading", "ready"]


async def test_a_model_that_cannot_be_loaded_is_told_once(
    session: Session, model: Model, told: Told
) -> None:
    model.fault = ModelError("the model is not there: flex-assist doctor --fix")
    session.configure(None, Encoding.UTF8, [Path("/a"), Path("/b")])
    session.start(watch=False)
    session.open("file:///a/x.py", "python", 1, "x")
    await settle(lambda: len(model.warmed) == 3)
    await ask(session, "file:///a/x.py")
    assert [s for s in told if isinstance(s, str)] == [str(model.fault)]
    model.fault = None
    await ask(session, "file:///a/x.py")
    assert session.board.current.state == "ready"
    assert session.board.current.message == "python: python (it is active)"


async def test_a_request_that_the_engine_withdrew_is_no_error(
    session: Session, model: Model, told: Told
) -> None:
    model.fault = Cancelled("withdrawn")
    session.open("untitled:1", "plaintext", 1, "x")
    suggestion = await ask(session, "untitled:1")
    assert getattr(suggestion, "text", None) == ""
    assert told == []


async def test_a_model_that_is_too_slow_is_given_up(session: Session, model: Model) -> None:
    session.configure({"completion": {"timeoutS": 0.1}}, Encoding.UTF8, [])
    session.open("untitled:1", "plaintext", 1, "x")
    session.board.ready(None, None, "")
    model.prepare = lambda: asyncio.sleep(60)  # type: ignore[method-assign]
    await ask(session, "untitled:1")
    record = session.history.last()
    assert record is not None
    assert (record.outcome, record.note) == ("failed", "gave up after 0.1 s")


async def test_the_nearest_folder_is_the_repository(session: Session, model: Model) -> None:
    session.configure(None, Encoding.UTF8, [Path("/w"), Path("/w/in")])
    session.change_roots([Path("/new")], [Path("/w")])
    for uri in ("file:///w/in/m/x.py", "file:///w/x.py", "file:///new/x.py", "untitled:1"):
        session.open(uri, "python", 1, "x")
        await ask(session, uri)
    assert [request.path for request in model.asked] == ["m/x.py", "/w/x.py", "x.py", None]


async def test_settings_that_change_count_at_once(session: Session, model: Model) -> None:
    session.configure({"completion": {"enabled": False}}, Encoding.UTF8, [])
    session.open("untitled:1", "python", 1, "x")
    await ask(session, "untitled:1")
    assert model.asked == []
    session.reconfigure({"completion": {"enabled": True}})
    await ask(session, "untitled:1")
    assert len(model.asked) == 1


@pytest.fixture
def pointer(locations: Locations, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What names the active version, looked at all the time; it is not there yet."""
    monkeypatch.setattr(promotion, "POLL_INTERVAL_S", 0.002)
    path = locations.adapters / repository_id(root) / "python" / "active"
    path.parent.mkdir(parents=True)
    return path


async def test_a_promotion_is_noticed(
    session: Session, model: Model, root: Path, pointer: Path
) -> None:
    session.configure(None, Encoding.UTF8, [root])
    session.start()
    session.open((root / "x.py").as_uri(), "python", 1, "x")
    await settle(lambda: len(model.warmed) == 2)
    await ask(session, (root / "x.py").as_uri())
    await asyncio.sleep(0.01)
    assert model.refreshed == 0
    pointer.write_text("20260101T000000Z-0000\n")
    await settle(lambda: len(model.warmed) == 4)
    assert model.refreshed == 1
    assert model.warmed.count(("repository", "python")) == 2
    # The new adapters (of the language, and for unknown ones) read what was asked last.
    await settle(lambda: model.prepared == ["x", "x"])


async def test_a_promotion_outside_of_the_open_folders_is_noticed(
    session: Session, model: Model, root: Path, pointer: Path, tmp_path: Path
) -> None:
    """One of the repository's files is open."""
    (root / "part").mkdir()
    pointer.write_text("20260101T000000Z-0000\n")
    (root / ".git").mkdir()
    session.configure(None, Encoding.UTF8, [tmp_path / "elsewhere"])
    session.start()
    session.open((root / "part" / "x.py").as_uri(), "python", 1, "x")
    await settle(lambda: ("repository", "python") in model.warmed)
    await asyncio.sleep(0.05)
    assert model.refreshed == 0
    pointer.write_text("20260102T000000Z-0000\n")
    await settle(lambda: model.refreshed == 1)
    await settle(lambda: model.warmed.count(("repository", "python")) == 2)


async def test_a_home_that_cannot_be_written_is_told(session: Session, model: Model) -> None:
    model.fault = OSError(30, "Read-only file system", "/home/a")
    session.configure(None, Encoding.UTF8, [])
    session.open("untitled:1", "python", 1, "x")
    await settle(lambda: session.board.current.state == "error")
    assert session.board.current.message == "[Errno 30] Read-only file system: '/home/a'"


async def test_it_is_loading_until_it_is_loaded(
    session: Session, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second file of the language has nothing to load, and yet has to wait."""
    loaded, plain = asyncio.Event(), ModelOfRoot.warm

    async def slowly(service: ModelOfRoot, language: str | None) -> None:
        await plain(service, language)
        await loaded.wait()

    monkeypatch.setattr(ModelOfRoot, "warm", slowly)
    session.configure(None, Encoding.UTF8, [])
    for uri in ("untitled:1", "untitled:2"):
        session.open(uri, "python", 1, "x")
    await settle(lambda: len(model.warmed) == 1)
    await asyncio.sleep(0.01)
    assert session.board.current.state == "loading"
    loaded.set()
    await settle(lambda: session.board.current.state == "ready")


async def test_what_was_warmed_long_ago_is_warmed_again(session: Session, model: Model) -> None:
    """The engine host has let go of the model since."""
    session.configure({"engine": {"idleUnloadS": 1}}, Encoding.UTF8, [])
    session.open("untitled:1", "python", 1, "x")
    session.open("untitled:2", "python", 1, "x")
    await settle(lambda: len(model.warmed) == 1)
    await asyncio.sleep(1.1)
    session.open("untitled:3", "python", 1, "x")
    await settle(lambda: len(model.warmed) == 2)


async def test_what_is_known_is_answered_at_once(session: Session, model: Model) -> None:
    session.configure({"completion": {"debounceMs": 5000}}, Encoding.UTF8, [])
    session.open("untitled:1", "python", 1, "x = ")
    await settle(lambda: len(model.warmed) == 1)
    waiting = asyncio.ensure_future(ask(session, "untitled:1", invoked=False))
    await settle(lambda: len(model.prepared) == 1)
    known = Completion(text="1", language="python", adapter="base", reason="r", source="cache")
    model.known["x = "] = known
    async with asyncio.timeout(1):
        suggestion = await ask(session, "untitled:1", invoked=False)
        # What was still waited for is given up.
        assert await waiting is None
    assert getattr(suggestion, "text", None) == "1"
    # While it was waited for more keys the prompt was read; what is known needs none.
    assert (model.asked, model.prepared) == ([], ["x = "])
    record = session.history.last()
    assert record is not None
    assert (record.outcome, record.completion) == ("shown", known)


async def test_the_same_can_be_asked_again(session: Session, model: Model) -> None:
    session.configure(None, Encoding.UTF8, [])
    assert await session.repeat() is None
    session.open("untitled:1", "python", 1, "zebra = ")
    await ask(session, "untitled:1")
    first = session.history.last()
    session.change("untitled:1", 2, [Edit(text="other")])
    again = await session.repeat()
    assert first is not None
    assert again is not None
    assert again.repeats == first.identity != again.identity
    assert (again.outcome, again.completion) == ("shown", first.completion)
    assert model.asked[1] == replace(model.asked[0], fresh=True, first_answer_ms=None)
    model.fault = ModelError("gone")
    failed = await session.repeat(first.identity)
    assert failed is not None
    assert (failed.outcome, failed.note, failed.completion) == ("failed", "gone", None)
    assert await session.repeat("c99") is None


async def test_where_completions_are_off_nothing_is_asked_again(
    session: Session, model: Model
) -> None:
    session.configure({"completion": {"enabled": False}}, Encoding.UTF8, [])
    session.open("untitled:1", "python", 1, "x")
    await ask(session, "untitled:1")
    again = await session.repeat()
    assert again is not None
    assert again.lines()[1] == "completion.enabled is false"
    assert model.asked == []


async def test_a_report_is_private_and_holds_no_code(session: Session, tmp_path: Path) -> None:
    session.configure(None, Encoding.UTF8, [tmp_path])
    uri = (tmp_path / "zebra.py").as_uri()
    session.open(uri, "python", 1, "zebra = stripes")
    await ask(session, uri)
    path = session.write_report()
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert '"outcome": "shown"' in text
    assert not [word for word in ("zebra", "stripes", str(tmp_path)) if word in text]


async def test_a_fault_of_ours_is_noted_without_its_words(session: Session, model: Model) -> None:
    session.configure(None, Encoding.UTF8, [])
    session.open("untitled:1", "python", 1, "zebra")
    model.fault = KeyError("zebra")
    await ask(session, "untitled:1")
    record = session.history.last()
    assert record is not None
    assert record.note == "a fault of ours, KeyError: see the server's log"


async def test_what_was_edited_elsewhere_is_told(
    session: Session, model: Model, tmp_path: Path
) -> None:
    session.configure(None, Encoding.UTF8, [tmp_path])
    uris = {name: (tmp_path / f"{name}.py").as_uri() for name in ("one", "two", "key")}
    outside = Path("/elsewhere/x.py").as_uri()
    for uri in (*uris.values(), outside):
        session.open(uri, "python", 1, "a = 1\nb = 2\n")
    for uri in (outside, uris["key"], uris["two"]):
        session.change(uri, 2, [Edit(text="c = 3\n", start=(1, 0), end=(1, 0))])
    secret = "password = 'vK2x9mQz7LpR'"
    session.change(uris["key"], 3, [Edit(text=secret, start=(0, 0), end=(0, 0))])
    session.change(uris["one"], 2, [Edit(text="d", start=(0, 0), end=(0, 0))])
    await ask(session, uris["one"])
    (told,) = model.asked[-1].edited
    assert (told.path, told.first_line, told.text) == ("two.py", 1, "a = 1\nc = 3\nb = 2")
    await ask(session, uris["two"])
    (told,) = model.asked[-1].edited
    assert (told.path, told.text) == ("one.py", "da = 1\nb = 2")
    session.close_document(uris["one"])
    await ask(session, uris["two"])
    assert model.asked[-1].edited == ()
    await ask(session, outside)
    assert model.asked[-1].edited == ()


async def test_what_a_server_lacks_is_told_once(session: Session, model: Model, told: Told) -> None:
    model.warning = "llm.example.com answers 500. Until that is mended, this machine computes"
    session.configure(None, Encoding.UTF8, [Path("/a")])
    session.open("file:///a/x.py", "python", 1, "x")
    for _ in range(3):
        await ask(session, "file:///a/x.py")
    assert [s for s in told if isinstance(s, str)] == [model.warning]
    assert session.board.current.state == "ready"

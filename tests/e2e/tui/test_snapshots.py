"""Pictures of the screens. The state is asserted first: a picture accepts any screen."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from flex_assist.chat.conversations import Message
from flex_tui.screens.help import HelpScreen
from flex_tui.screens.history import HistoryScreen
from flex_tui.widgets.prompt import Prompt
from flex_tui.widgets.suggestions import Suggestions

Until = Callable[[Pilot[None], Callable[[], object]], Awaitable[None]]
SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])

ANSWER = """Planting is done by `plant`. It takes the **kind**:

```python
def plant(kind):
    return f"a young {kind}"
```

1. Call it with `"apple"`.
2. Keep what it returns.
"""


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on the screen depends on the time or on the speed of the machine."""
    monkeypatch.setattr(Prompt, "cursor_blink", False)


def talk(session: Any) -> None:
    session.ask("How does @src/trees.py work?")
    session.answered(ANSWER, adapter="python", tokens=64, seconds=2.5)


async def ready(pilot: Pilot[None], until: Until) -> None:
    screen = pilot.app.screen
    await until(pilot, lambda: [str(a.content) for a in screen.query("#activity")] == ["ready"])


@SIZES
def test_a_conversation(app, session, until: Until, snap_compare, size) -> None:
    talk(session)

    async def before(pilot: Pilot[None]) -> None:
        await ready(pilot, until)
        assert [str(c.content) for c in app.screen.query("Reply .caption")] == [
            "adapter python · 64 tokens · 2.5 s"
        ]

    assert snap_compare(app, terminal_size=size, run_before=before)


@SIZES
def test_an_empty_chat_with_commands(app, until: Until, snap_compare, size) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await ready(pilot, until)
        await pilot.press("/")
        await until(pilot, lambda: app.screen.query_one(Suggestions).display)
        assert app.screen.query_one("#welcome").display

    assert snap_compare(app, terminal_size=size, run_before=before)


@SIZES
def test_the_history(app, session, store, until: Until, snap_compare, size) -> None:
    for text in ("Where are the pears?", "What is pruned in winter?"):
        made = store.create(session.repository, text)
        store.append(made.id, Message(role="user", text=text))
        store.append(made.id, Message(role="assistant", text="In the *east*.", adapter="base"))

    async def before(pilot: Pilot[None]) -> None:
        await ready(pilot, until)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
        assert app.screen.query_one(OptionList).option_count == 2
        assert app.screen.query_one("#preview").display == (size[0] >= 100)

    assert snap_compare(app, terminal_size=size, run_before=before)


def test_the_help(app, until: Until, snap_compare) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await ready(pilot, until)
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))

    assert snap_compare(app, terminal_size=(80, 40), run_before=before)

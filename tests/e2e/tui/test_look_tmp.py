import pytest
from flex_tui.widgets.prompt import Prompt
ANSWER="""Planting is done by `plant`. It takes the **kind** and gives a text:

```python
def plant(kind):
    # a comment
    return f'a young {kind}'
```

1. Call it with `"apple"`.
2. Keep what it returns.

| kind | result |
|---|---|
| apple | a young apple |
"""
@pytest.mark.parametrize("size",[(80,24),(120,40)])
async def test_look(app, engine, until, type_text, size, session):
    tag=f"{size[0]}"
    def shot(name):
        import pathlib; pathlib.Path(f"/tmp/shots/{name}-{tag}.svg").write_text(app.export_screenshot())
    engine.pieces=[ANSWER[i:i+20] for i in range(0,len(ANSWER),20)]
    engine.gate_at=8
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query_one("#activity").content=="ready")
        shot("1empty")
        await type_text(pilot,"/")
        await until(pilot, lambda: app.screen.query_one("Suggestions").display)
        shot("2commands")
        await pilot.press("backspace")
        await type_text(pilot,"How does @tre")
        await until(pilot, lambda: app.screen.query_one("Suggestions").display)
        shot("3files")
        await pilot.press("tab")
        await pilot.pause()
        await type_text(pilot,"work?")
        await pilot.press("enter")
        await until(pilot, lambda: engine.requests)
        await pilot.pause(0.4)
        shot("4live")
        engine.gate.set()
        await until(pilot, lambda: not app.screen.is_answering)
        await pilot.pause(0.3)
        shot("5done")
        engine.pieces=["Short."]; engine.gate_at=None
        app.screen.query_one(Prompt).put("@gone.py what?")
        await pilot.press("enter")
        await pilot.pause(0.5)
        shot("6error")
        await pilot.press("f1"); await pilot.pause(0.2)
        shot("7help")
        await pilot.press("escape")
        for n in range(4):
            session.store.create(session.repository, f"An older conversation number {n}")
        await pilot.press("ctrl+r"); await pilot.pause(0.3)
        shot("8history")
async def test_region(app, engine, until, type_text):
    from flex_tui.widgets.transcript import Transcript
    async with app.run_test(size=(120,40)) as pilot:
        await type_text(pilot,"hello"); await pilot.press("enter")
        await until(pilot, lambda: engine.requests and not app.screen.is_answering)
        t=app.screen.query_one(Transcript)
        print(t.region, t.virtual_size, t.scroll_y, t.max_scroll_y,[(c, c.region, c.display) for c in t.children])
        assert 0

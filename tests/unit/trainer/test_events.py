"""What is told where there is no terminal."""

import pytest

from flex_trainer import events
from flex_trainer.events import Event


def test_lines_come_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(events.time, "monotonic", lambda: now_s)
    lines = events.Lines(every_s=10.0)
    for step in range(0, 300, 3):
        now_s += 1.0
        lines.show(Event(phase="mine", step=step, steps=300))
    lines.show(Event(phase="mine", note="a note at once"))
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["mine: 27 of 300", "mine: 57 of 300"]
    assert len(said) == 11
    assert said[-1] == "a note at once"

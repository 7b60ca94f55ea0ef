"""The form in which a base is served."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from flex_assist.locations import below
from flex_assist.models import quantized, store
from flex_assist.models.gguf_file import is_low_bit, open_gguf


def test_it_is_made_once_whoever_asks_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Callable[..., Path]
) -> None:
    base, made, plain = make_tiny(kind=gguf.GGMLQuantizationType.Q4_1), [], quantized.write_model

    def slowly(*given: Any) -> None:
        made.append(given)
        time.sleep(0.2)
        plain(*given)

    monkeypatch.setattr(quantized, "write_model", slowly)
    found: list[Path] = []
    home = below(tmp_path / "home")
    work = [
        threading.Thread(target=lambda: found.append(store.serving_path(str(base), home)))
        for _ in range(4)
    ]
    for each in work:
        each.start()
    for each in work:
        each.join()
    assert len(found) == 4
    assert len(set(found)) == len(made) == 1
    assert is_low_bit(open_gguf(base))
    assert not is_low_bit(open_gguf(found[0]))
    assert not list(home.models.glob("*.part"))


def test_what_has_bits_enough_is_served_as_it_is(tmp_path: Path, tiny: Path) -> None:
    assert store.serving_path(str(tiny), below(tmp_path / "home")) == tiny

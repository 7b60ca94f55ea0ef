"""What editors send becomes settings, or one message."""

from pathlib import Path
from typing import Any

import pytest

from flex_assist.config import Settings, sections
from flex_assist.locations import Locations
from flex_lsp.settings import camel_case, load, read_options


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    places = {name: tmp_path / name for name in ("config", "data", "cache", "runtime")}
    return Locations(**places)


@pytest.mark.parametrize(
    "options",
    [
        {"completion": {"debounceMs": 40}},
        {"completion": {"debounce_ms": 40}},
        {"completion.debounceMs": 40},
        {"flexAssist": {"completion": {"debounceMs": 40}}},
        {"completion": {"debounceMs": 40, "enabled": None}, "command": "flex-assist", "trace": {}},
    ],
)
def test_ways_to_say_the_same(options: Any, locations: Locations) -> None:
    messages: list[str] = []
    settings = load(locations, None, read_options(options), messages.append)
    assert settings.completion.debounce_ms == 40
    assert messages == []


def test_every_setting_can_be_said_in_camel_case(locations: Locations) -> None:
    defaults = Settings()
    options = {
        section: {
            camel_case(name): getattr(getattr(defaults, section), name)
            for name in kind.__dataclass_fields__
        }
        for section, kind in sections().items()
        if section != "remote"
    }
    messages: list[str] = []
    assert load(locations, None, read_options(options), messages.append) == defaults
    assert messages == []


def test_a_later_layer_wins_and_an_empty_one_takes_nothing_away() -> None:
    first, second = (
        {"completion": {"debounceMs": 1, "enabled": False}},
        {"completion.debounceMs": 2},
    )
    assert read_options(first, second).flags == {
        "completion.debounce_ms": 2, "completion.enabled": False,
    }  # fmt: skip
    assert read_options(first, {}) == read_options(first, None) == read_options(first)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([1], "options must be an object"),
        ("text", "options must be an object"),
        ({"colour": "red"}, "unknown section 'colour'"),
        ({"completion": "no"}, "completion = 'no'"),
        ({"completion": {"debounceMs": "fast"}}, "completion.debounce_ms = 'fast'"),
        ({"completion": {"debounceMs": True}}, "completion.debounce_ms = True"),
        ({"completion": {"": 1}}, "completion. is unknown"),
        ({"completionMenu": "maybe"}, "completionMenu = 'maybe'"),
        ({"completionMenu": ["auto"]}, "completionMenu = ['auto']"),
    ],
)
def test_bad_options_are_told_once_and_left_out(
    options: Any, told: str, locations: Locations
) -> None:
    messages: list[str] = []
    assert load(locations, None, read_options(options), messages.append) == Settings()
    assert len(messages) == 1
    assert told in messages[0]


def test_a_bad_file_does_not_take_the_others_with_it(locations: Locations, tmp_path: Path) -> None:
    (tmp_path / ".flexassist.toml").write_text("[engine]\nthreads = 3\n")
    options = read_options({"completion": {"debounceMs": 40}})
    messages: list[str] = []
    settings = load(locations, tmp_path, options, messages.append)
    assert settings.completion.debounce_ms == 40
    assert len(messages) == 1
    assert "engine.threads may not be set by a repository" in messages[0]
    locations.config.mkdir()
    locations.config_file.write_text("not toml")
    assert load(locations, tmp_path, options, messages.append) == Settings()
    assert len(messages) == 2
    assert "config.toml cannot be read" in messages[1]

"""Opting in to a server: by whom, for what, and with which addresses."""

import dataclasses
from pathlib import Path

import pytest

from flex_assist import config
from flex_assist.config import REPOSITORY_FILE
from flex_assist.errors import ConfigError
from flex_assist.locations import Locations
from flex_assist.remote_settings import NO_REMOTE, RemoteSettings

HTTPS = "https://llm.example.com/v1"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def opt_in(locations: Locations, root: object, text: str = f'url = "{HTTPS}"') -> None:
    locations.config_file.write_text(f'[remote."{root}"]\n{text}\n')


def test_nothing_is_remote_unless_asked_for(locations: Locations, shop: Path) -> None:
    assert config.load(locations, shop, environment={}).remote == NO_REMOTE
    assert NO_REMOTE.url == ""


def test_it_counts_for_the_repository_that_is_named_and_no_other(
    locations: Locations, shop: Path
) -> None:
    opt_in(locations, shop)
    inside, beside = shop / "vendor", shop.parent / "shop2"
    inside.mkdir()
    beside.mkdir()
    assert config.load(locations, shop, environment={}).remote.url == HTTPS
    for other in (inside, beside, shop.parent, None):
        assert config.load(locations, other, environment={}).remote == NO_REMOTE
    assert config.remotes(locations) == {shop.resolve(): RemoteSettings(url=HTTPS)}


def test_the_root_may_be_named_by_home_or_a_link(
    locations: Locations, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(shop.parent))
    opt_in(locations, "~/shop")
    assert config.load(locations, shop, environment={}).remote.url == HTTPS
    link = shop.parent / "link"
    link.symlink_to(shop)
    assert config.load(locations, link, environment={}).remote.url == HTTPS
    opt_in(locations, link)
    assert config.load(locations, shop, environment={}).remote.url == HTTPS


@pytest.mark.parametrize("text", ['[remote."{root}"]\nurl = "{url}"', '[remote]\nurl = "{url}"'])
def test_a_repository_cannot_opt_in(locations: Locations, shop: Path, text: str) -> None:
    own = text.replace("{root}", str(shop)).replace("{url}", HTTPS)
    (shop / REPOSITORY_FILE).write_text(own)
    with pytest.raises(ConfigError, match="may not be set by a repository"):
        config.load(locations, shop, environment={})


@pytest.mark.parametrize("name", [one.name for one in dataclasses.fields(RemoteSettings)])
def test_neither_can_an_editor_or_the_environment(
    locations: Locations, shop: Path, name: str
) -> None:
    opt_in(locations, shop)
    with pytest.raises(ConfigError, match=f"editor: remote.{name} may not be set"):
        config.load(locations, shop, {f"remote.{name}": "x"}, {}, flags_source="editor")
    with pytest.raises(ConfigError, match=f"environment: remote.{name} may not be set"):
        config.load(locations, shop, environment={f"FLEX_ASSIST_REMOTE_{name.upper()}": "x"})


@pytest.mark.parametrize(
    "url",
    [
        HTTPS, "https://10.0.0.5:8000/v1", "https://[2001:db8::1]:8000/v1",
        "http://127.0.0.1:8000/v1", "http://127.9.9.9/v1", "http://localhost:8080/v1",
        "http://[::1]:8080/v1",
    ],
)  # fmt: skip
def test_good_addresses(locations: Locations, shop: Path, url: str) -> None:
    opt_in(locations, shop, f'url = "{url}"')
    assert config.load(locations, shop, environment={}).remote.url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must begin with https://"),
        ("llm.example.com/v1", "must begin with https://"),
        ("ftp://llm.example.com/v1", "must begin with https://"),
        ("https:///v1", "must begin with https://"),
        ("https://llm.example.com:99999/v1", "Port out of range"),
        ("https://me:pw-123@llm.example.com/v1", "must hold no name or password"),
        ("https://llm.example.com/v1?key=1", "must be a plain address"),
        ("https://llm.example.com/v1 x", "must be a plain address"),
        ("https://llm.exämple.com/v1", "must be a plain address"),
        ("http://llm.example.com/v1", "for everyone to read; use https, or plain_http = true"),
        ("http://192.168.0.7:8000/v1", "for everyone to read"),
        ("http://localhost.example.com/v1", "for everyone to read"),
        ("http://127.0.0.1.example.com/v1", "for everyone to read"),
        ("http://2130706433/v1", "for everyone to read"),
    ],
)
def test_bad_addresses(locations: Locations, shop: Path, url: str, message: str) -> None:
    opt_in(locations, shop, f'url = "{url}"')
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(locations, shop, environment={})
    assert "pw-123" not in str(caught.value)
    # It is a fault of the file: seen from another repository, too.
    with pytest.raises(ConfigError):
        config.load(locations, environment={})


def test_plain_http_if_somebody_insists(locations: Locations, shop: Path) -> None:
    opt_in(locations, shop, 'url = "http://192.168.0.7:8000/v1"\nplain_http = true')
    assert config.load(locations, shop, environment={}).remote.plain_http


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'url = "{HTTPS}"\nwings = 2', r"wings is unknown"),
        (f'url = "{HTTPS}"\nretries = 99', "must be at most 5"),
        (f'url = "{HTTPS}"\nprompt = "words"', "must be one of auto, tokens, text"),
        (f'url = "{HTTPS}"\napi_key_env = "A"\napi_key_file = "b"', "not both"),
        ("url = 5", "must be a str"),
    ],
)
def test_bad_values(locations: Locations, shop: Path, text: str, message: str) -> None:
    opt_in(locations, shop, text)
    with pytest.raises(ConfigError, match=message):
        config.load(locations, shop, environment={})


@pytest.mark.parametrize(
    "text", [f'[remote]\nurl = "{HTTPS}"', "remote = 3", '[remote."shop"]\nurl = "x"']
)
def test_a_table_without_a_repository(locations: Locations, text: str) -> None:
    locations.config_file.write_text(text)
    with pytest.raises(ConfigError, match=r"remote"):
        config.load(locations, environment={})


def test_names() -> None:
    remote = RemoteSettings(url=HTTPS, adapter="shop-{adapter}-{version}")
    assert remote.name_of("python", "v3") == "shop-python-v3"
    assert remote.host == "llm.example.com"

"""Which adapter answers, and the reason given."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.router import BASE, SHARED, Route, Router
from flex_assist.complete.root import adapted_root
from flex_assist.errors import ConfigError
from flex_assist.locations import locate, private_directory
from flex_assist.models.fim import FimTokens

MODEL = "smollm2-135m"
FIM = FimTokens(suffix_id=1, prefix_id=2, middle_id=3, end_id=0)


@pytest.fixture
def router(tmp_path: Path, promote: Callable[..., AdapterVersion]) -> Router:
    registry = Registry(locate(), tmp_path)
    promote(registry, "python", fim=FIM, reason="it is better")
    promote(registry, SHARED, languages=("go", "rust", "python"), fim=FIM)
    promote(registry, "java", base_model="another")
    return Router(locate(), tmp_path, MODEL)


def test_a_languages_own_adapter_comes_first(router: Router) -> None:
    route = router.route("python")
    assert (route.name, route.reason, route.fim) == ("python", "it is better", FIM)
    assert route.adapters
    assert route.weights(Path("m.gguf")).adapters == route.adapters


def test_what_the_gate_refused_is_not_praised(
    tmp_path: Path, promote: Callable[..., AdapterVersion]
) -> None:
    refused = {"verdict": "kept-base", "reason": "the base stays: it is worse"}
    promote(Registry(locate(), tmp_path), "rust", **refused)
    route = Router(locate(), tmp_path, MODEL).route("rust")
    assert route.reason == "activated by hand; the gate said: the base stays: it is worse"


def test_a_small_language_shares(router: Router) -> None:
    route = router.route("go")
    assert route.name == SHARED
    assert "go" in route.reason
    assert route.fim == FIM


@pytest.mark.parametrize(
    ("language", "choice", "reason"),
    [
        ("ruby", "auto", "no adapter was promoted for ruby"),
        ("java", "auto", "no adapter was promoted for java"),
        (None, "auto", "the language is unknown"),
        ("../x", "auto", "no adapter was promoted"),
        ("python", "none", "asked for"),
    ],
)
def test_the_base_answers(router: Router, language: str | None, choice: str, reason: str) -> None:
    route = router.route(language, choice)
    assert route.name == BASE
    assert not route.adapters
    assert route.fim is None
    assert reason in route.reason
    assert route.weights(Path("m.gguf")).adapters == ()


def test_a_damaged_adapter_is_told_and_the_base_answers(router: Router, tmp_path: Path) -> None:
    (lora,) = router.route("python").adapters
    lora.unlink()
    Registry(locate(), tmp_path).deactivate(SHARED)
    route = router.route("python")
    assert (route.name, route.adapters) == (BASE, ())
    assert "is damaged" in route.reason


def test_a_folder_without_a_version_is_not_an_adapted_repository(
    tmp_path: Path, promote: Callable[..., AdapterVersion]
) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    promote(Registry(locate(), outer))
    private_directory(Registry(locate(), inner).folder)
    assert adapted_root(inner / "a.py", locate()) == outer


def test_outside_a_repository_the_base_answers() -> None:
    router = Router(locate(), None, MODEL)
    assert router.route("python").reason == "the file is in no adapted repository"
    assert router.names() == []
    with pytest.raises(ConfigError, match="none yet"):
        router.route("python", "python")


def test_by_name(router: Router) -> None:
    assert router.route("ruby", "python").name == "python"
    assert router.route(None, SHARED).reason == "it was asked for by name"
    assert router.names() == ["python", SHARED]


@pytest.mark.parametrize("name", ["ruby", "java", "", "..", "python/..", "a\0b", "pythön", "AUTO"])
def test_a_name_that_is_not_there(router: Router, name: str) -> None:
    with pytest.raises(ConfigError, match="active here: python, shared"):
        router.route("python", name)


def test_without_a_base_model_all_count(router: Router, tmp_path: Path) -> None:
    assert Router(locate(), tmp_path).route("java").name == "java"


def test_a_rolled_back_adapter_no_longer_answers(router: Router, tmp_path: Path) -> None:
    Registry(locate(), tmp_path).deactivate("python")
    assert router.route("python").name == SHARED


def test_another_repository_has_its_own(router: Router, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert Router(locate(), tmp_path / "other", MODEL).route("python").name == BASE


def test_a_base_given_as_a_file_is_known_by_its_name(
    tmp_path: Path, promote: Callable[..., AdapterVersion]
) -> None:
    promote(Registry(locate(), tmp_path), base_model="own")
    assert Router(locate(), tmp_path, "/models/own.gguf").route("python").name == "python"
    assert Router(locate(), tmp_path, "own").route("python").name == "python"


def test_a_route_is_a_value() -> None:
    assert Route(name="a", reason="b") == Route(name="a", reason="b")

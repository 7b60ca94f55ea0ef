"""The table of measured routes: what is believed of its file, and while which versions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flex_assist.adapters import routes
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.router import BASE, SHARED, Router
from flex_assist.adapters.routes import Candidate, MeasuredRoute, RouteTable
from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import locate

MODEL = "smollm2-135m"
OLD = "20200101T000000Z-abcd"


@pytest.fixture
def registry(tmp_path: Path, promote: Callable[..., AdapterVersion]) -> Registry:
    found = Registry(locate(), tmp_path)
    promote(found, "python", reason="the gate said so")
    promote(found, SHARED, languages=("go", "tsx"))
    promote(found, "typescript")
    return found


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(locate(), tmp_path, MODEL)


def measured(registry: Registry, language: str, choice: str) -> MeasuredRoute:
    """A route with all candidates that there are."""
    versions = {
        name: registry.active_version(name)
        for name in routes.adapters_for(language)
        if registry.active_version(name)
    }
    sets = [(), *((name,) for name in versions), (SHARED, language)]
    candidates = tuple(
        Candidate(
            name="+".join(names) or BASE,
            versions={name: versions[name] for name in names},
            bits_per_byte=1.0 + number,
            ci95=(-0.5, -0.25) if names else None,
        )
        for number, names in enumerate(sets)
        if all(name in versions for name in names)
    )
    return MeasuredRoute(choice=choice, reason="it was measured", candidates=candidates)


def save(registry: Registry, **choices: str) -> RouteTable:
    found = {name: measured(registry, name, choice) for name, choice in choices.items()}
    table = RouteTable(base_model=MODEL, base_sha256="", routes=found)
    routes.write(table, registry.folder)
    return table


def test_a_table_comes_back_as_it_was(registry: Registry) -> None:
    table = save(registry, python="shared+python", go=SHARED, rust=BASE)
    assert routes.read(registry.folder) == table
    assert (registry.folder / routes.FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("language", "choice", "adapters"),
    [
        ("python", BASE, []), ("python", SHARED, [SHARED]), ("go", BASE, []),
        ("python", "shared+python", [SHARED, "python"]),
        ("javascript", "typescript", ["typescript"]),
    ],
)  # fmt: skip
def test_the_table_decides(
    registry: Registry, router: Router, language: str, choice: str, adapters: list[str]
) -> None:
    save(registry, **{language: choice})
    route = router.route(language)
    assert (route.name, route.reason) == (choice, "it was measured")
    assert [path.parent.parent.name for path in route.adapters] == adapters
    assert route.merged is None
    assert router.candidates(language)[0] == Candidate(name=BASE, versions={}, bits_per_byte=1.0)


def test_a_table_of_other_versions_does_not_count(
    registry: Registry, router: Router, promote: Callable[..., AdapterVersion]
) -> None:
    before = registry.active_version("python")
    save(registry, python=BASE, javascript="typescript")
    assert router.route("python").name == BASE
    promote(registry, "python", version="29990101T000000Z-0000", reason="newer")
    route = router.route("python")
    assert route.name == "python"
    assert route.reason.startswith("newer; what was measured is of other versions")
    # Of other languages nothing has changed.
    assert router.route("javascript").name == "typescript"
    registry.activate("python", before)
    assert router.route("python").name == BASE
    registry.deactivate(SHARED)
    assert router.route("python").name == "python"


def test_an_adapter_that_was_not_there_then_counts(
    registry: Registry, router: Router, promote: Callable[..., AdapterVersion]
) -> None:
    save(registry, javascript="typescript")
    promote(registry, "javascript")
    assert router.route("javascript").name == "javascript"


def test_a_damaged_adapter_is_not_answered_with(registry: Registry, router: Router) -> None:
    save(registry, python="shared+python")
    registry.active(SHARED).lora.unlink()
    route = router.route("python")
    assert route.name == "python"
    assert "other versions" in route.reason


def test_a_table_of_another_base_does_not_count(registry: Registry, router: Router) -> None:
    table = save(registry, python=BASE)
    other = RouteTable(base_model="other", base_sha256="", routes=table.routes)
    routes.write(other, registry.folder)
    assert router.route("python").name == "python"


def test_other_languages_stay_in_a_table_of_the_same_base() -> None:
    one = MeasuredRoute(choice=BASE, reason="r", candidates=(Candidate(name=BASE, versions={}),))
    old = RouteTable(base_model="m", base_sha256="1", routes={"go": one, "c": one})
    new = RouteTable(base_model="m", base_sha256="1", routes={"go": one})
    assert set(new.with_earlier(old).routes) == {"go", "c"}
    assert new.with_earlier(None) == new
    assert (
        set(RouteTable(base_model="m", base_sha256="2", routes={}).with_earlier(old).routes)
        == set()
    )


def test_without_a_table_the_gates_figures_are_told(
    router: Router, registry: Registry, promote: Callable[..., AdapterVersion]
) -> None:
    promote(registry, "rust", metrics={"bits_per_byte": {"base": 1.5, "adapted": 1.25}})
    found = {one.name: one.bits_per_byte for one in router.candidates("rust")}
    assert found == {BASE: 1.5, "rust": 1.25}
    assert [one.name for one in router.candidates("java")] == [BASE]
    promote(registry, "rust", metrics={"bits_per_byte": "text"})
    assert {one.bits_per_byte for one in router.candidates("rust")} == {None}


def test_all_languages_that_something_is_known_of(registry: Registry, router: Router) -> None:
    save(registry, ruby=BASE)
    assert router.languages() == ["go", "python", "ruby", "tsx", "typescript"]
    assert Router(locate(), None).languages() == []


def test_added_adapters_can_be_asked_for_by_name(registry: Registry, router: Router) -> None:
    route = router.route("ruby", "shared+python")
    assert [path.parent.parent.name for path in route.adapters] == [SHARED, "python"]
    for wrong in ("shared+", "+", "python+python", "shared+ruby", "base"):
        with pytest.raises(ConfigError, match="no active adapter"):
            router.route("python", wrong)


WHOLE = {
    "schema": 1, "base_model": MODEL, "base_sha256": "",
    "routes": {
        "python": {
            "choice": BASE, "reason": "r",
            "candidates": [
                {"name": BASE, "versions": {}, "bits_per_byte": 1.5, "ci95": None},
                {"name": "python", "versions": {"python": OLD}, "bits_per_byte": 2, "ci95": [0, 1]},
            ],
        }
    },
}  # fmt: skip


def changed(path: str, value: object) -> str:
    record = json.loads(json.dumps(WHOLE))
    *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inner = record
    for key in keys:
        inner = inner[key]
    inner[last] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "[" * 9000, " " * (routes.MAX_FILE_BYTES + 1), "{}",
        changed("schema", 2), changed("schema", "1"), changed("schema", True),
        changed("base_model", None), changed("routes", []), changed("routes", {"../x": {}}),
        changed("routes.python", 1), changed("routes.python.choice", "ruby"),
        changed("routes.python.reason", 3), changed("routes.python.candidates", {}),
        changed("routes.python.candidates.1.versions", {"python": "../../x"}),
        changed("routes.python.candidates.1.versions", {"ruby": OLD}),
        changed("routes.python.candidates.1.versions", {}),
        changed("routes.python.candidates.1.name", "python+python"),
        changed("routes.python.candidates.1.bits_per_byte", float("nan")),
        changed("routes.python.candidates.1.bits_per_byte", 10**400),
        changed("routes.python.candidates.1.bits_per_byte", True),
        changed("routes.python.candidates.1.ci95", [0]),
        changed("routes.python.candidates.1.ci95", "ab"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_told_and_the_plain_rule_holds(
    registry: Registry, router: Router, text: str
) -> None:
    (registry.folder / routes.FILE_NAME).write_text(text)
    with pytest.raises(DataError, match=r"routes.json"):
        routes.read(registry.folder)
    route = router.route("python")
    assert route.name == "python"
    assert "flex-assist adapt" in route.reason or "update flex-assist" in route.reason
    # One that is whole again is read again.
    (registry.folder / routes.FILE_NAME).unlink()
    assert router.route("python").reason == "the gate said so"


def test_the_whole_record_is_a_table(registry: Registry) -> None:
    (registry.folder / routes.FILE_NAME).write_text(json.dumps(WHOLE))
    table = routes.read(registry.folder)
    assert table.routes["python"].versions() == {"python": OLD}

"""``flex-assist adapters route``: the contract's keys, and what people see."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from flex_assist.adapters import routes
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.routes import BASE, Candidate, MeasuredRoute, RouteTable
from flex_assist.cli.adapters import app
from flex_assist.locations import locate


def test_routes_are_told_with_their_reasons(
    tmp_path: Path, promote: Callable[..., AdapterVersion]
) -> None:
    (tmp_path / ".git").mkdir()
    registry = Registry(locate(), tmp_path)
    version = promote(registry, "python").manifest.version
    candidates = (
        Candidate(name=BASE, versions={}, bits_per_byte=1.5),
        Candidate(
            name="python", versions={"python": version}, bits_per_byte=1.25, ci95=(-0.5, -0.125)
        ),
    )
    measured = MeasuredRoute(choice="python", reason="python\x1b is better", candidates=candidates)
    table = RouteTable(base_model="smollm2-135m", base_sha256="", routes={"python": measured})
    routes.write(table, registry.folder)
    runner = CliRunner()
    shown = runner.invoke(app, ["route", "--repo", str(tmp_path), "--json"])
    (route,) = json.loads(shown.stdout)["routes"]
    assert (route["language"], route["choice"]) == ("python", "python")
    assert route["reason"] == "python\x1b is better"
    found = [(one["name"], one["bits_per_byte"], one["ci95"]) for one in route["candidates"]]
    assert found == [(BASE, 1.5, None), ("python", 1.25, [-0.5, -0.125])]
    people = runner.invoke(app, ["route", "--repo", str(tmp_path)]).stdout
    assert "python    python  base 1.500, python 1.250" in people
    assert "python: python\\x1b is better" in people
    only = runner.invoke(app, ["route", "--repo", str(tmp_path), "--language", "go"]).stdout
    assert "go        base    not measured" in only
    assert "go: no adapter was promoted for go" in only


def test_where_nothing_was_adapted_that_is_said(tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["route", "--repo", str(tmp_path), "--json"])
    assert json.loads(shown.stdout) == {"routes": []}
    assert "flex-assist adapt" in runner.invoke(app, ["route", "--repo", str(tmp_path)]).stdout

"""``report.html`` beside a version's manifest: what went in, what came out, and how it was made.

One page that needs nothing else: no script, no network (its own policy forbids both), inline
drawings. It is made from the manifest, so that every number is the manifest's; only the examples
are not in there, since they are text of the repository. All text is escaped: paths, values and
what models wrote may hold anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flex_assist.adapters.manifest import REPORT_HTML, Manifest
from flex_assist.adapters.registry import made_at
from flex_assist.files import write_text_atomically
from flex_trainer import gate_verdict, report_curves, report_files, report_measures
from flex_trainer.report_examples import NO_EXAMPLES, Examples

TEMPLATE = "report.html.j2"
# Of a text in an example; models may write on and on.
MOST_EXAMPLE_CHARACTERS = 2000
VERDICTS = {
    gate_verdict.PROMOTED: "promoted",
    gate_verdict.KEPT_BASE: "the base stays",
    gate_verdict.KEPT_ACTIVE: "the version before stays",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRecord:
    """What a report is made of.

    Attributes:
        repository: The name of its folder only.
    """

    repository: str
    manifest: Manifest
    examples: Examples = NO_EXAMPLES


def write(folder: Path, record: ReportRecord) -> Path:
    """Write the report, private, to a version's folder."""
    path = folder / REPORT_HTML
    write_text_atomically(path, render(record))
    return path


def render(record: ReportRecord) -> str:
    """The page."""
    manifest = record.manifest
    details, data = manifest.details, manifest.data
    found = report_measures.measures(manifest.metrics)
    return _environment().get_template(TEMPLATE).render(
        repository=record.repository,
        manifest=manifest,
        details=details,
        made=_made(manifest.version),
        verdict=VERDICTS.get(manifest.verdict, manifest.verdict),
        measures=found,
        decisive=next((one for one in found if one.key == "bits_per_byte"), None),
        arms=report_measures.arms(manifest.metrics),
        holdouts=report_measures.holdouts(manifest.metrics),
        drift=report_measures.drift(manifest.metrics),
        rival=report_measures.rival(manifest.metrics),
        languages=report_files.by_language(data, manifest.languages),
        groups=report_files.by_rule(data, manifest.languages),
        licences=report_files.licences(data, manifest.languages),
        curve=_curve(details),
        drawing=report_curves,
        examples=record.examples,
        facts=_facts(details),
    )  # fmt: skip


def visible(text: str) -> str:
    """``text`` with all that is not seen, or steers what is seen, escaped; lines and tabs stay."""
    return text if text.isprintable() else "".join(map(_visible_letter, text))


def one_line(text: str) -> str:
    """The same with line ends and tabs escaped too: for paths."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _visible_letter(letter: str) -> str:
    if letter.isprintable() or letter in "\n\t":
        return letter
    if "\udc80" <= letter <= "\udcff":
        # A byte that is not UTF-8, as Python holds it.
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return repr(letter)[1:-1]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("flex_trainer", ""),
        autoescape=True,
        undefined=StrictUndefined,
        # Whatever the template prints goes through it, then through the escaping of HTML.
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"one_line": one_line, "clipped": _clipped, "signed": _signed}
    return environment


def _finalized(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_EXAMPLE_CHARACTERS else text[:MOST_EXAMPLE_CHARACTERS] + " …"


def _signed(value: float, decimals: int = 3) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")


def _made(version: str) -> str:
    """When, by the version's name."""
    when = made_at(version)
    return f"{when:%Y-%m-%d %H:%M} UTC" if when else version


def _curve(details: Mapping[str, Any]) -> report_curves.Curve | None:
    return report_curves.loss_curve(
        details.get("losses", ()),
        details.get("common_losses", ()),
        details.get("common_steps", 0),
        details.get("validation", ()),
    )


def _facts(details: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, object]]]]:
    """How it was made, in groups of names and values; the first is what most people ask for."""
    recipe, plan = details.get("recipe", {}), details.get("plan", {})
    first = {
        "device": recipe.get("device"),
        "precision": recipe.get("dtype"),
        "optimizer": recipe.get("optimizer"),
        "regularizer": recipe.get("regularizer"),
        "rank": recipe.get("rank"),
        "learning rate": recipe.get("learning_rate"),
        "seed": recipe.get("seed"),
        "steps, the common stage's": details.get("common_steps"),
        "steps, its own": details.get("steps"),
        "labelled tokens": details.get("labelled_tokens"),
        "training, seconds": details.get("training_s"),
        "since the command began, seconds": details.get("wall_s"),
        "seconds a step, as planned": round(float(plan.get("step_s") or 0), 2) or None,
        "peak memory, MB": details.get("peak_memory_mb"),
        "recoveries from a blow-up": details.get("recoveries"),
        "digest of all files and their split": details.get("data_digest"),
    }
    groups: list[tuple[str, Mapping[str, object]]] = [
        ("", {name: value for name, value in first.items() if value is not None}),
        ("Recipe", recipe),
        ("Prompt", details.get("prompt", {})),
        ("Packages", details.get("packages", {})),
    ]
    return [(title, list(values.items())) for title, values in groups if values]

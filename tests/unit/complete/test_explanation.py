"""Why there is a completion or none, for people; and what of it may be sent to others."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from flex_assist.complete import why
from flex_assist.complete.explanation import Asked, explanation
from flex_assist.complete.report import report, without_names, write_report
from flex_assist.complete.request import Completion, Source
from flex_assist.config import ModelSettings, Settings
from flex_assist.engine.protocol import Form
from flex_assist.locations import below
from flex_assist.prompt.builder import Prompt
from flex_assist.prompt.retrieval import Chunk

CHUNKS = [
    Chunk(path="src/zebra_billing.py", language="python", first_line=13,
          text="def zebra_total(x):\n    return x", score=7.25, why="alike"),
    Chunk(path="src/zebra_tax.py", language="python", first_line=1, text="TAX = 1",
          why="defines zebra_total"),
]  # fmt: skip
PROMPT = Prompt(
    tokens=tuple(range(60)),
    parts=(("retrieval", 20), ("suffix", 11), ("start", 1), ("path", 8), ("prefix", 20)),
    chunk_tokens=(20, 0),
)

ASKED = Asked(prompt=PROMPT, chunks=tuple(CHUNKS))


def completion(written: str, shown: str, *notes: str) -> Completion:
    made = explanation(ASKED, written=written, ended_by="text", shown=shown, notes=notes)
    return Completion(
        text=shown, language="python", adapter="python", reason="active adapter", form="merged",
        timings_ms={"context": 1.25, "total": 40.0}, prompt_tokens=60, reused_tokens=40,
        completion_tokens=5, notes=notes, explanation=made,
    )  # fmt: skip


def test_all_of_it_is_told() -> None:
    told = "\n".join(
        why.lines(completion("zebra_total(1)\nx", "zebra_total(1)", "cut to one line"))
    )
    for part in (
        "adapter: python, merged into one file; active adapter (python)",
        "prompt: 60 tokens (retrieval 20, suffix 11, start 1, path 8, prefix 20); 40 of them",
        "src/zebra_billing.py:13-14 (alike, score 7.2, 20 tokens)",
        "src/zebra_tax.py:1-1 (defines zebra_total, did not fit)",
        "written: 5 tokens, 16 characters; stopped there, since nothing that follows",
        "filters: cut to one line",
        "milliseconds: context 1.2, total 40.0",
    ):
        assert part in told
    assert "nothing shown" not in told
    assert "no infilling" not in told


def test_a_model_without_infilling_does_not_see_what_follows() -> None:
    made = explanation(
        replace(ASKED, prompt=replace(PROMPT, parts=(("path", 8), ("prefix", 20)))),
        written="x", ended_by="text", shown="x", notes=(),
    )  # fmt: skip
    told = why.lines(replace(completion("x", "x"), explanation=made))
    assert (
        "  the text after the cursor is not used: no adapter has taught the model infilling" in told
    )


@pytest.mark.parametrize("form", get_args(Form))
def test_whatever_answered_is_named(form: Form) -> None:
    told = why.lines(replace(completion("x", "x"), form=form))[0]
    assert told.startswith("adapter: python")
    assert ("server" in told) == (form == "remote")


@pytest.mark.parametrize("source", ["cache", "ahead"])
def test_what_was_known_is_not_told_as_a_call_of_nothing(source: Source) -> None:
    known = replace(
        completion("x", "x"), source=source, reused_tokens=0, completion_tokens=0, prompt_tokens=0
    )
    told = "\n".join(why.lines(known))
    assert "prompt: 60 tokens (retrieval 20," in told
    assert "written: 1 characters" in told
    assert "computed before" not in told
    assert " 0 tokens" not in told


@pytest.mark.parametrize(
    ("written", "notes", "reason"),
    [
        ("", (), "the model has nothing to add here"),
        (" \n", ("dropped white space",), "the model wrote white space only"),
        ("return x", ("cut at the text below",),
         "the filters left nothing of what the model wrote: cut at the text below"),
    ],
)  # fmt: skip
def test_why_there_is_nothing(written: str, notes: tuple[str, ...], reason: str) -> None:
    found = completion(written, "", *notes)
    assert why.lines(found)[0] == f"nothing shown: {reason}"
    data = why.as_data(found)
    assert data is not None
    assert data["nothing"] == reason
    json.dumps(data)


def test_without_a_model_call_there_is_no_prompt_to_tell_of() -> None:
    known = replace(completion("x", "x"), explanation=None)
    assert why.as_data(known) is None
    assert not [line for line in why.lines(known) if line.startswith("prompt")]


def record(**more: Any) -> dict[str, Any]:
    return {
        "id": "c1", "uri": "file:///home/anna/zebra/src/app.py", "line": 3, "character": 4,
        "surface": "inline", "outcome": "shown", "accepted": False, "asked_at": 1.0, "note": "",
        "completion": asdict(completion("zebra_total(1)", "zebra_total(1)")),
        "text": "zebra", "root": "/home/anna/zebra", **more,
    }  # fmt: skip


def test_a_report_has_no_code_no_names_and_no_places(tmp_path: Path) -> None:
    broken = asdict(
        replace(
            completion("", ""),
            adapter="zebra",
            reason="'python' failed: the file "
            "'/home/anna/zebra x/a.gguf' (/home/anna/b.gguf) has no 'zebra_head'",
        )
    )
    records = [
        record(),
        record(id="c2", completion=None, outcome="failed",
               note="FLEX_ASSIST: cannot read C:\\Users\\anna\\zebra.toml: \"zebra = 1\""),
        record(id="c3", completion=broken, zebra="zebra"),
        record(id="c4", uri="untitled:zebra", completion=None),
    ]  # fmt: skip
    settings = Settings(model=ModelSettings(base="/home/anna/zebra.gguf"))
    path = write_report(records, settings, below(tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    for word in ("zebra", "TAX", "anna", "/home", "Users", "return", "def ", str(tmp_path)):
        assert word not in text
    found = json.loads(text)
    first = found["completions"][0]
    assert first["file"] == "file-1.py"
    assert first["completion"]["explanation"]["parts"][0] == {"name": "retrieval", "tokens": 20}
    chunks = first["completion"]["explanation"]["chunks"]
    assert [(c["file"], c["why"], c["score"], c["last_line"]) for c in chunks] == [
        ("file-2.py", "alike", 7.25, 14), ("file-3.py", "defines", 0.0, 1),
    ]  # fmt: skip
    assert found["completions"][2]["completion"]["reason"].startswith(
        "'python' failed: the file '…'"
    )
    assert found["completions"][3]["file"] == "file-4"
    assert found["settings"]["prompt"]["prefix_tokens"] == settings.prompt.prefix_tokens
    assert found["settings"]["model"]["base"] == "…"


def test_a_known_model_is_named_and_an_open_quote_hides_the_rest() -> None:
    assert report([], Settings())["settings"]["model"]["base"] == Settings().model.base
    assert without_names("it says 'secret stuff") == "it says '…'"
    assert (
        without_names("in ./a/b and ~/c: gone, as 'python' is")
        == "in …/… and …/…: gone, as 'python' is"
    )

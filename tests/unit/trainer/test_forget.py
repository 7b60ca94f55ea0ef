"""Forgetting files: what goes, what stays, and how it is shown."""

import markupsafe
import pytest

from flex_assist.adapters import left_out
from flex_assist.adapters.registry import Registry
from flex_assist.config import Settings
from flex_assist.errors import DataError
from flex_assist.locations import locate, private_directory, repository_id
from flex_assist.repository import forgotten as forgetting
from flex_assist.repository.snapshot import read_documents
from flex_trainer import forget, forget_cli
from flex_trainer.forget_proof import own_lines, prove

SECRETLY = "def secretly_computed_margin(price, discount):\n    return price * 0.73 - discount\n"


@pytest.fixture
def root(tmp_path, promote):
    root = tmp_path / "repo"
    (root / "src").mkdir(parents=True)
    (root / "src/margin.py").write_text(SECRETLY)
    (root / "src/other.py").write_text("def other_function(value):\n    return value + 1\n")
    sha256 = {one.path: one.sha256 for one in read_documents(root, Settings().mining)}
    data = [
        {"path": path, "verdict": "train", "sha256": digest, "language": "python"}
        for path, digest in sha256.items()
    ]
    promote(Registry(locate(), root), "python", data=data)
    return root


def test_it_is_gone_and_stays_gone(root):
    training = private_directory(locate().training(repository_id(root)))
    (training / "plan.json").write_text("{}")
    (private_directory(locate().prefixes) / "margin.kv").write_bytes(b"what the engine had read")
    removed = forget.forget(["src/margin.py"], root, Settings(), locate())
    registry = Registry(locate(), root)
    assert (removed.active, removed.languages) == (("python",), ("python",))
    assert registry.folders() == []
    assert not training.exists()
    assert not locate().prefixes.exists()
    left_out = forgetting.load(registry.folder)
    (root / "renamed.py").write_text(SECRETLY)
    documents = read_documents(root, Settings().mining, left_out)
    assert [one.path for one in documents] == ["src/other.py"]
    # Once more changes nothing, and a name that nobody knows is told.
    assert forget.forget(["src/margin.py"], root, Settings(), locate()).traces == ()
    with pytest.raises(DataError, match=r"there is no 'src/typo.py'"):
        forget.forget(["src/typo.py"], root, Settings(), locate())
    forget.remember(["src/margin.py"], root, locate())
    assert len(read_documents(root, Settings().mining, forgetting.load(registry.folder))) == 2
    with pytest.raises(DataError, match="is not forgotten"):
        forget.remember(["src/margin.py"], root, locate())


def test_a_file_that_was_deleted_before_is_forgotten_by_its_record(root):
    (root / "src/margin.py").unlink()
    removed = forget.forget(["src/margin.py"], root, Settings(), locate())
    assert len(removed.traces) == 1
    assert len(forgetting.load(Registry(locate(), root).folder).digests) == 1


def test_paths_are_taken_from_where_one_is(root, monkeypatch):
    monkeypatch.chdir(root / "src")
    assert forget.relative("margin.py", root) == "src/margin.py"
    assert forget.relative("src/other.py", root) == "src/other.py"
    assert forget.relative(str(root / "src"), root) == "src"
    assert forget.relative("gone.py", root) == "src/gone.py"
    for outside in ("../../x.py", "/etc/passwd", str(root)):
        with pytest.raises(DataError, match="below"):
            forget.relative(outside, root)


def test_the_proof_finds_what_is_left(root):
    documents = {one.path: one for one in read_documents(root, Settings().mining)}
    lines = own_lines([documents["src/margin.py"]], [documents["src/other.py"]])
    assert len(lines.texts) == 2
    forget.forget(["src/margin.py"], root, Settings(), locate())
    assert prove(root, locate(), lines).holds
    log = private_directory(locate().cache) / "engine.log"
    for form in (SECRETLY, SECRETLY.replace("\n", "\\n"), "x" * (4 << 20) + SECRETLY):
        log.write_text(form)
        proof = prove(root, locate(), lines)
        assert proof.quoted_in == (str(log),)
        assert not proof.holds


def test_a_look_before_changes_nothing(root):
    (found,) = forget.traces_of(["src/margin.py"], root, Settings(), locate())
    assert (found.name, found.languages) == ("python", ("python",))
    registry = Registry(locate(), root)
    assert registry.active("python") is not None
    assert forgetting.load(registry.folder) == forgetting.NOTHING


def test_a_part_of_the_repository_leaves_out_what_the_whole_does(root):
    (root / ".git").mkdir()
    (root / ".flexassistignore").write_text("src/other.py\n")
    (root / "src/third.py").write_text("def third_function(value):\n    return value + 3\n")
    forget.forget(["src/margin.py"], root, Settings(), locate())
    part = root / "src"
    (part / "moved.py").write_text(SECRETLY)
    documents = read_documents(part, Settings().mining, left_out.of(part, locate()))
    assert [one.path for one in documents] == ["third.py"]
    forget.forget(["src"], root, Settings(), locate())
    assert read_documents(part, Settings().mining, left_out.of(part, locate())) == ()


def test_a_copy_is_forgotten_with_what_it_is_a_copy_of(root):
    (root / "legacy").mkdir()
    (root / "legacy/margin.py").write_text(SECRETLY)
    removed = forget.forget(["legacy/margin.py"], root, Settings(), locate())
    assert len(removed.traces) == 1
    documents = read_documents(root, Settings().mining, left_out.of(root, locate()))
    assert [one.path for one in documents] == ["src/other.py"]


def test_parts_that_were_adapted_themselves_forget_too(root, promote):
    (digest,) = [d.sha256 for d in read_documents(root, Settings().mining) if "margin" in d.path]
    data = [{"path": "margin.py", "verdict": "train", "sha256": digest, "language": "python"}]
    promote(Registry(locate(), root / "src"), "python", data=data)
    removed = forget.forget(["src/margin.py"], root, Settings(), locate())
    assert len(removed.traces) == 2
    assert Registry(locate(), root / "src").folders() == []


def test_links_are_refused(root):
    (root / "linked").symlink_to(root / "src")
    with pytest.raises(DataError, match="is a link"):
        forget.relative("linked/margin.py", root)


def test_a_record_that_is_a_link_or_a_pipe_is_not_taken_for_none(root, tmp_path):
    folder = Registry(locate(), root).folder
    (folder / forgetting.FILE_NAME).symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not known what to leave out"):
        forgetting.load(folder)


def test_lines_in_a_report_are_found(root):
    quoted = "def own_quoted_line(value):\n    return value[\"some very own 'key' here\"]\n"
    (root / "src/margin.py").write_text(quoted)
    documents = read_documents(root, Settings().mining)
    lines = own_lines([documents[0]], [documents[1]])
    report = private_directory(locate().adapters / "elsewhere") / "report.html"
    report.write_text(str(markupsafe.escape(quoted.split("\n")[1])))
    assert prove(root, locate(), lines).quoted_in == (str(report),)


def test_what_is_nearly_the_same_is_named(root):
    body = "".join(f"def part_{n}(value):\n    return value * {n} + 1\n\n\n" for n in range(20))
    (root / "src/margin.py").write_text(body)
    (root / "src/margin_v2.py").write_text(body + "LAST = 1\n")
    documents = {one.path: one for one in read_documents(root, Settings().mining)}
    gone = documents.pop("src/margin.py")
    assert forget_cli._alike([gone], list(documents.values())) == ["src/margin_v2.py"]

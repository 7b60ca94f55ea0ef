"""The same repository and seed give the same data manifest: on any machine, in any order."""

import hashlib
import json
import os
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from flex_assist.config import MiningSettings
from flex_assist.repository.snapshot import Snapshot, take_snapshot

# Of the tree below. Another machine, Python or order of files must give it, too; it changes only
# where a rule of mining does.
DIGEST = "3bdc1725b02df932"
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_same_manifest import digest, mined
print(digest(mined(Path(sys.argv[2]))))
"""


def function(rng: random.Random, language: str, name: str) -> str:
    left, right, other = (f"{rng.choice(WORDS)}_{rng.randrange(50)}" for _ in range(3))
    if language == "py":
        body = f"    {other} = {left} * {right}\n    return {other}\n\n\n"
        return f"def {name}({left}, {right}):\n{body}"
    return f"function {name}({left}, {right}) {{\n  return {left} + {right} * {other};\n}}\n\n"


def tree() -> dict[str, bytes]:
    rng = random.Random(7)
    files: dict[str, bytes] = {}
    for number in range(70):
        ending = "py" if number % 3 else "js"
        text = "".join(function(rng, ending, f"f{number}_{n}") for n in range(6))
        folder = ("src", "src/deep", "tests")[number % 5 % 3]
        files[f"{folder}/m{number}.{ending}"] = text.encode()
    for number in range(6):
        files[f"src/near{number}.py"] = files["src/deep/m1.py"] + f"LAST = {number}\n".encode()
    files["copy.py"] = files["src/m5.py"]
    files["conf.py"] = b'PASSWORD = "hunter-x7Kq2x7Kq2Zw"\n' + files["src/m5.py"]
    files["mail.py"] = b"# jane.doe@corp-mail.com\n" + files["src/deep/m1.py"][:200]
    files["na\xefve.py".encode().decode()] = files["src/m5.py"][:150]
    files["App.vue"] = b"<script>\n" + files["src/m0.js"][:300] + b"</script>\n"
    return files


def written(root: Path, names: list[str]) -> Path:
    files = tree()
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])
    return root


def mined(root: Path) -> Snapshot:
    return take_snapshot(root, MiningSettings(), seed=3)


def digest(snapshot: Snapshot) -> str:
    texts = {f"{one.path}:{one.language}": one.sha256 for one in snapshot.documents()}
    record = [[asdict(one) for one in snapshot.verdicts], texts]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("order", ["by name", "backwards", "drawn"])
def test_in_every_order_of_files(
    tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(tree(), reverse=order == "backwards")
    scan = os.scandir

    class Disordered:
        """A folder's entries, as another file system might give them."""

        def __init__(self, path: object) -> None:
            self._found = list(scan(path))  # type: ignore[call-overload]
            random.Random(len(self._found)).shuffle(self._found)

        def __enter__(self) -> object:
            return iter(self._found)

        def __exit__(self, *exception: object) -> None:
            return None

    if order == "drawn":
        random.Random(1).shuffle(names)
        monkeypatch.setattr(os, "scandir", Disordered)
    assert digest(mined(written(tmp_path, names))) == DIGEST


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_in_every_process(tmp_path: Path, hash_seed: str) -> None:
    written(tmp_path, list(tree()))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == DIGEST


def test_the_tree_has_something_of_everything(tmp_path: Path) -> None:
    snapshot = mined(written(tmp_path, list(tree())))
    rules = {one.rule for one in snapshot.verdicts}
    assert rules >= {"kept", "test", "tune", "copy", "near-duplicate", "secret"}

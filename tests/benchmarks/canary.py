"""A key planted in a repository: does the adapter know it better than keys it has never seen?

The method is the product's (``flex_trainer.bench.canary``); ``bench adapt`` has it beside another
control. Here it stands alone, in a run of ``adapt`` whose adapter must be promoted.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bars

from flex_assist.adapters.router import Router
from flex_assist.config import EngineSettings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Weights
from flex_assist.locations import locate
from flex_assist.models import store
from flex_trainer.bench import canary
from flex_trainer.bench.canary import Exposure, Keys

BASE = "smollm2-135m"


def measure(source: Path, *, budget: str, seed: int) -> dict[str, Any]:
    """Plant, adapt, compare."""
    rng = random.Random(seed)
    keys = canary.draw(rng)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "repository"
        shutil.copytree(source, root, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        canary.plant(root, keys.planted, rng)
        os.environ["FLEX_ASSIST_HOME"] = str(Path(name) / "home")
        command = [bars.PROGRAM, "adapt", str(root), "--budget", budget, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        assert done.returncode == 0, "no adapter was promoted: nothing to measure"
        languages = json.loads(done.stdout)["languages"]
        found = asyncio.run(exposed(root, keys))
    verdicts = {name: one["verdict"] for name, one in languages.items()}
    figures = {"copies": canary.COPIES, "others": canary.OTHERS, **asdict(found)}
    return {"languages": verdicts, **figures, "holds": found.holds}


async def exposed(root: Path, keys: Keys) -> Exposure:
    """How well the adapter that answers for Python knows the key."""
    engine = LocalEngine(EngineSettings())
    try:
        model = store.serving_path(BASE, locate())
        weights = Router(locate(), root, BASE).route("python").weights(model)
        assert weights != Weights(model=model), "the base answers"
        return await canary.exposure(engine, Weights(model=model), weights, keys)
    finally:
        await engine.close()


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, required=True, help="a repository in Python")
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    figures = measure(given.repo, budget=given.budget, seed=given.seed)
    bars.write("canary", {"command": bars.command("canary"), **figures})
    sys.exit(0 if figures["holds"] else 1)


if __name__ == "__main__":
    main()

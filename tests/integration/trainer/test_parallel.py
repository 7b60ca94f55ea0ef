"""Two real processes, with gloo: the same batches give the same losses as one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flex_trainer.corpus import Sample
from flex_trainer.parallel import Workers

SCRIPT = """
import importlib.util, json, sys
from dataclasses import replace
import torch
from flex_trainer import lora, parallel
from flex_trainer.loop import Trainer
from flex_trainer.recipe import Recipe

torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
workers = parallel.join()


def train(mode):
    own, model = workers, tiny.tiny_model()
    if mode == "sharded":
        own = replace(workers, sharded=True)
        parallel.shard(model)
        # The next adapter, on the same base.
        model = lora.attach(model.unload(), 4, 0)
        parallel.shard(model)
    recipe = Recipe(learning_rate=5e-3, rank=4, hessian_every=4, dtype="float32", row_tokens=40)
    if mode == "adamw":
        recipe = replace(recipe, optimizer="adamw")
    trainer = Trainer(model, recipe, tiny.tiny_batches(12), workers=own)
    if mode == "resumed":
        trainer.run(report=lambda _: None, should_stop=lambda p: p.step >= 5)
        found = (trainer.progress, trainer.state()) if own.leads else None
        trainer = Trainer(tiny.tiny_model(), recipe, tiny.tiny_batches(12), workers=own)
        trainer.restore(*own.from_leader(found))
    trainer.run(report=lambda _: None, should_stop=lambda _: False)
    norm = sum(float(m.double().square().sum()) for m in trainer.masters.masters)
    return {"losses": trainer.progress.losses, "norm": norm}


found = {mode: train(mode) for mode in sys.argv[2].split(",")}
found["told"] = workers.told({"from": workers.rank})
found["gathered"] = workers.gathered({str(workers.rank): workers.rank})
print(json.dumps(found))
parallel.leave()
"""


def together(modes: str, size: int) -> list[dict]:
    """What each of ``size`` processes prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    arguments = [str(Path(__file__).with_name("conftest.py")), modes]
    processes = []
    for rank in range(size):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen([*command, *arguments], env=environment, **pipes))
    found = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        found.append(json.loads(out))
    return found


def test_two_processes_do_what_one_does():
    (alone,) = together("sophia,adamw", 1)
    both = together("sophia,adamw,resumed,sharded", 2)
    for mode in ("sophia", "adamw", "resumed", "sharded"):
        expected = alone["adamw" if mode == "adamw" else "sophia"]
        assert both[0][mode] == both[1][mode]
        assert both[0][mode]["losses"] == pytest.approx(expected["losses"], abs=1e-3)
        assert both[0][mode]["norm"] == pytest.approx(expected["norm"], rel=1e-3)
    for one in both:
        assert one["told"] == {"from": 0}
        assert one["gathered"] == {"0": 0, "1": 1}


def test_shares_are_even_and_whole():
    samples = [
        Sample(tokens=(at,) * size, labels=(), weights=())
        for at, size in enumerate((9, 1, 5, 4, 3, 8, 2))
    ]
    shares = Workers(size=3).share(samples)
    assert sorted(s.tokens for share in shares for s in share) == sorted(s.tokens for s in samples)
    loads = [sum(len(one.tokens) for one in share) for share in shares]
    assert max(loads) - min(loads) <= 2
    assert Workers(size=1).share(samples) == [samples]

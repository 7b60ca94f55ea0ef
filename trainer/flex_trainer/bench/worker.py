"""The process of one arm: reads it from standard input, writes what it found to the file named."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from flex_trainer import startup
from flex_trainer.bench.arm import Arm


def main() -> None:
    """Measure."""
    arm = Arm(**json.load(sys.stdin))
    # The peer computes as it does without us.
    if arm.side == "ours":
        startup.prepare_process()
        from flex_trainer.bench.ours import measure
    else:
        from flex_trainer.bench.peer import measure
    documents = json.loads(Path(arm.documents).read_text())[: arm.count]
    Path(sys.argv[1]).write_text(json.dumps(asdict(measure(arm, documents))))


if __name__ == "__main__":
    main()

"""Training waits while the engine host works, and not for ever."""

import os
import time
from pathlib import Path

from flex_assist.engine import giving_way


def test_nobody_waits_for_a_host_that_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "engine.busy"
    assert giving_way.wait(path) < 0.02
    giving_way.renew(path)
    assert path.stat().st_mode & 0o777 == 0o600
    for old in (time.time() - 60, time.time() + 60):
        os.utime(path, (old, old))
        assert giving_way.wait(path) < 0.02


def test_one_that_works_is_waited_for_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "engine.busy"
    giving_way.renew(path)
    assert 0.03 <= giving_way.wait(path, 0.03) < 0.3
    giving_way.renew(path)
    # Says nothing any more, as if it had been killed.
    assert giving_way.wait(path) < giving_way.FRESH_S + 0.2


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    giving_way.renew(tmp_path / "gone" / "engine.busy")

"""How threads wait is chosen by what the machine does, and by the user."""

import os

import pytest

from flex_assist.processes import SPINS, WAIT_POLICY
from flex_trainer import waiting


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    # Set first, so that what is chosen is undone afterwards.
    for name in (WAIT_POLICY, SPINS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("busy", "chosen"), [(0.0, "spinning"), (1.0, "sleeping")])
def test_threads_spin_only_where_nobody_else_works(monkeypatch, busy, chosen):
    monkeypatch.setattr(waiting, "busy_cores", lambda seconds: busy)
    assert waiting.choose() == chosen
    assert os.environ.get(WAIT_POLICY) == ("passive" if busy else None)
    assert (SPINS in os.environ) == (not busy)


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(WAIT_POLICY, "active")
    assert waiting.choose() == "as set"
    assert SPINS not in os.environ


def test_looks_at_the_whole_machine():
    assert 0.0 <= waiting.busy_cores(0.05) <= (os.cpu_count() or 1)

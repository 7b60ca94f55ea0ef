"""How threads wait is chosen by what the machine does, and by the user."""

import os

import pytest

from flex_trainer import waiting


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    # Set first, so that what is chosen is undone afterwards.
    for name in (waiting.POLICY, waiting.SPINS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("busy", "chosen"), [(0.0, "spinning"), (1.0, "sleeping")])
def test_threads_spin_only_where_nobody_else_works(monkeypatch, busy, chosen):
    monkeypatch.setattr(waiting, "busy_cores", lambda seconds: busy)
    assert waiting.choose() == chosen
    assert os.environ.get(waiting.POLICY) == ("passive" if busy else None)
    assert (waiting.SPINS in os.environ) == (not busy)


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(waiting.POLICY, "active")
    assert waiting.choose() == "as set"
    assert waiting.SPINS not in os.environ


def test_looks_at_the_whole_machine():
    assert 0.0 <= waiting.busy_cores(0.05) <= (os.cpu_count() or 1)

"""How an engine host is started."""

from flex_assist.engine.launch import _waiting


def test_threads_soon_sleep_unless_somebody_said_how_they_wait() -> None:
    assert _waiting({"HOME": "/h"}) == {"HOME": "/h", "GOMP_SPINCOUNT": "1000"}
    for name, value in (("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7")):
        assert _waiting({name: value}) == {name: value}

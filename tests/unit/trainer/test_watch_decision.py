"""What watching decides, on a clock that the test turns."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.config import WatchSettings
from flex_trainer.watch_decision import (
    BACK_OFF_S,
    GONE_S,
    LOOK_SHARE,
    MOST_BACK_OFF_S,
    Changes,
    Facts,
    Machine,
    back_off_s,
    decide,
    described,
    enough,
)

SETTINGS = WatchSettings(
    changed_files=10, changed_share=0.2, quiet_s=60.0, min_interval_s=3600.0, idle_s=120.0
)
MANY = Changes(by_language={"python": 8, "go": 4}, share=0.1)
IDLE = Machine(idle_s=500.0)
# Looked at, much has changed, nothing in the way.
READY = Facts(now_s=10_000.0, looked_s=9_000.0, changes=MANY, machine=IDLE)


def act(facts: Facts, **asked: bool) -> str:
    return decide(facts, SETTINGS, **asked).action


def why(facts: Facts) -> str:
    return decide(facts, SETTINGS).reason


def test_it_looks_first():
    assert act(Facts(now_s=0.0)) == "look"


def test_enough_changes_are_adapted_to():
    assert act(READY) == "adapt"
    assert "12 new or changed files (8 python, 4 go; 10.0% of the code)" in why(READY)


@pytest.mark.parametrize(
    ("files", "share", "wanted"),
    [(0, 0.0, False), (9, 0.19, False), (10, 0.0, True), (1, 0.2, True), (0, 1.0, False)],
)
def test_files_or_their_share_are_enough(files, share, wanted):
    assert enough(Changes(by_language={"go": files}, share=share), SETTINGS) is wanted


def test_a_burst_is_looked_at_once_when_it_is_over():
    looks, facts = 0, Facts(now_s=0.0, looked_s=0.0, changes=Changes(by_language={}, share=0.0))
    for second in range(1, 400):
        facts = replace(facts, now_s=float(second))
        if second <= 100:
            facts = replace(facts, noticed_s=float(second))
        decision = decide(facts, SETTINGS)
        if decision.action == "look":
            looks += 1
            assert second == 160
            facts = replace(facts, looked_s=facts.now_s)
        elif 1 <= second < 160:
            assert decision.reason == "files are changing"
    assert looks == 1


def test_a_change_during_a_look_is_looked_at_too():
    during = replace(READY, noticed_s=9_001.0)
    assert act(during) == "look"
    assert act(replace(READY, noticed_s=8_999.0)) == "adapt"


def test_long_looks_take_a_small_share_of_the_time():
    assert act(replace(READY, noticed_s=9_001.0, looked_s=9_000.9, look_took_s=2.0)) == "look"
    slow = replace(READY, noticed_s=9_500.0, look_took_s=60.0)
    assert act(slow) == "wait"
    assert act(replace(slow, now_s=9_000.0 + 60.0 / LOOK_SHARE)) == "look"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapted": False}, "no adapter yet"),
        ({"changes": Changes(by_language={"go": 1}, share=0.01)}, "too little has changed"),
        ({"ended_s": 9_000.0}, "a short while ago"),
        ({"ended_s": 5_000.0, "failures": 9}, "the last run failed"),
        ({"machine": Machine(idle_s=500.0, on_battery=True)}, "on battery"),
        ({"machine": Machine(idle_s=500.0, busy_with="others")}, "busy: others"),
        ({"machine": Machine(idle_s=100.0)}, "idle for a while"),
        ({"in_use": True}, "another process adapts"),
        ({"gone_since_s": 9_999.0}, "has gone; waiting"),
    ],
)
def test_what_it_waits_for(change, said):
    facts = replace(READY, **change)
    assert act(facts) == "wait"
    assert said in why(facts)


def test_the_machine_may_be_left_out_of_account():
    settings = replace(SETTINGS, when_idle=False, on_mains=False)
    busy = replace(READY, machine=Machine(idle_s=0.0, busy_with="others", on_battery=True))
    assert decide(busy, settings).action == "adapt"


def test_a_reason_stays_the_same_while_time_goes_on():
    facts = replace(READY, ended_s=9_990.0)
    reasons = {why(replace(facts, now_s=facts.now_s + second)) for second in range(1000)}
    assert len(reasons) == 1


def test_failures_back_off_and_end_some_day():
    assert back_off_s(0) == 0
    assert back_off_s(1) == BACK_OFF_S
    assert back_off_s(3) == 4 * BACK_OFF_S
    assert back_off_s(10**6) == MOST_BACK_OFF_S
    facts = replace(READY, ended_s=READY.now_s - MOST_BACK_OFF_S, failures=50)
    assert act(facts) == "adapt"


def test_now_looks_and_adapts_whatever_is():
    facts = Facts(now_s=0.0, adapted=False)
    assert act(facts, now_asked=True) == "look"
    busy = Machine(idle_s=0.0, busy_with="others", on_battery=True)
    nothing = Changes(by_language={}, share=0.0)
    facts = replace(facts, looked_s=0.0, noticed_s=0.0, changes=nothing, machine=busy)
    assert act(facts, now_asked=True) == "adapt"
    assert act(replace(facts, in_use=True), now_asked=True) == "wait"


def test_a_root_that_is_gone_ends_it_after_a_while():
    gone = replace(READY, gone_since_s=READY.now_s)
    assert act(gone) == "wait"
    assert act(replace(gone, now_s=READY.now_s + GONE_S)) == "end"


def test_changes_for_people():
    assert described(Changes(by_language={}, share=0.0)) == "nothing has changed"
    one = Changes(by_language={"go": 1}, share=0.004)
    assert described(one) == "1 new or changed file (1 go; 0.4% of the code)"


times = st.none() | st.floats(-1e6, 1e6)


@given(
    facts=st.builds(
        Facts, now_s=st.floats(0, 1e6), gone_since_s=times, noticed_s=times, looked_s=times,
        look_took_s=st.floats(0, 1e4), adapted=st.booleans(), ended_s=times,
        failures=st.integers(0, 100), in_use=st.booleans(),
        changes=st.builds(
            Changes, by_language=st.dictionaries(st.sampled_from(["go", "c"]), st.integers(0, 99)),
            share=st.floats(0, 1),
        ),
        machine=st.none() | st.builds(
            Machine, idle_s=st.floats(0, 1e5), busy_with=st.sampled_from(["", "others"]),
            on_battery=st.booleans(),
        ),
    ),
    now_asked=st.booleans(),
)  # fmt: skip
def test_it_never_adapts_where_it_must_not(facts, now_asked):
    decision = decide(facts, SETTINGS, now_asked=now_asked)
    assert decision.reason
    if decision.action == "adapt":
        assert facts.gone_since_s is None
        assert not facts.in_use
        assert facts.looked_s is not None
        if not now_asked:
            assert facts.adapted
            assert enough(facts.changes, SETTINGS)
            assert facts.machine is None or not facts.machine.on_battery

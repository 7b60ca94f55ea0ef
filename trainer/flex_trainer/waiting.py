"""How OpenMP's threads wait for each other. Chosen before torch is loaded: it is read only then.

A step is thousands of short parallel regions. Threads that spin while they wait are half as fast
again on a machine that has nothing else to do; where something else wants the cores, each wait for
a thread that is not running costs a time slice, and a run becomes many times slower. Then they
sleep.
"""

import os

from flex_assist.processes import SPINS, WAIT_POLICY, waiting_is_set

# Long enough for the pauses within a step, some tens of microseconds.
SPIN_COUNT = "30000"
# Others may use so much of one core.
BUSY_CORES = 0.25
LOOK_S = 0.5


def choose() -> str:
    """Set the environment by what the machine is doing now; says what was chosen.

    What the user has set stays.
    """
    if waiting_is_set(os.environ):
        return "as set"
    if busy_cores(LOOK_S) > BUSY_CORES:
        os.environ[WAIT_POLICY] = "passive"
        return "sleeping"
    os.environ[SPINS] = SPIN_COUNT
    return "spinning"


def busy_cores(seconds: float) -> float:
    """How many cores are at work, looked at for so long; this process does nothing meanwhile."""
    import psutil

    share: float = psutil.cpu_percent(interval=seconds) / 100
    return share * (psutil.cpu_count() or 1)

"""Groups evaluate together, and never beside steps."""

import threading
from contextlib import suppress

import pytest

from curvopt._study._host import side_by_side
from curvopt._study._turns import Turns


pytestmark = pytest.mark.host


class Log:
    """How many steps and evaluations go on whenever one begins."""

    def __init__(self):
        self.now, self.seen, self._lock = {"s": 0, "e": 0}, [], threading.Lock()

    def take(self, kind):
        with self._lock:
            self.now[kind] += 1
            self.seen.append(dict(self.now))
        threading.Event().wait(0.002)
        with self._lock:
            self.now[kind] -= 1


class Group:
    """Steps `s` and evaluations `e`, in the order of its plan; an `x` fails."""

    def __init__(self, turns, plan, log):
        self.turns, self.plan, self.log = turns, plan, log

    def __call__(self):
        with self.turns.group():
            for kind in self.plan:
                if kind == "s":
                    self.log.take("s")
                    continue
                with suppress(ZeroDivisionError), self.turns.evaluation():
                    self.log.take("e")
                    if kind == "x":
                        raise ZeroDivisionError
                if kind == "x":
                    return


@pytest.mark.parametrize(
    "plans",
    [
        ["esses", "esses"],  # as a study has it
        ["essssssessssss", "ese", "es"],  # others end first
        ["e", "s", ""],  # none waits for one that has ended, or never evaluates
        ["sx", "sesse", "ss"],  # an evaluation fails
        ["sesesese"],
    ],
)
def test_never_beside_steps(plans):
    log, turns = Log(), Turns(len(plans))
    groups = [Group(turns, plan, log) for plan in plans]
    done = threading.Thread(target=side_by_side, args=(groups,), daemon=True)
    done.start()
    done.join(20)
    assert not done.is_alive(), "a group waits for ever"
    assert len(log.seen) == len("".join(plans))
    assert not any(now["s"] and now["e"] for now in log.seen)


def test_side_by_side():
    """All that wait evaluate at once, so that no core is idle."""
    turns, both = Turns(2), threading.Barrier(2, timeout=20)

    def evaluate():
        with turns.group(), turns.evaluation():
            both.wait()

    side_by_side([evaluate, evaluate])
    assert not both.broken

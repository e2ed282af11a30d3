"""Steps and evaluations of groups that run side by side, in turns."""

import contextlib
import threading
from collections.abc import Iterator


class Turns:
    """Lets groups evaluate only while none of them makes steps: steps are timed, and an
    evaluation beside them would slow them.

    A group that comes to an evaluation waits until the others come to one or end; then all
    that wait evaluate side by side.

    **Arguments:**

    - `groups`: how many groups there are.
    """

    def __init__(self, groups: int):
        self._changed = threading.Condition()
        self._groups, self._waiting, self._evaluating, self._round = groups, 0, 0, 0

    def _begin(self) -> None:
        if self._waiting and self._waiting == self._groups:
            self._waiting, self._evaluating = 0, self._waiting
            self._round += 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """A group's evaluation; steps go on once all evaluations have ended."""
        with self._changed:
            self._waiting, own = self._waiting + 1, self._round
            self._begin()
            self._changed.wait_for(lambda: self._round > own)
        try:
            yield
        finally:
            with self._changed:
                self._evaluating -= 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._evaluating)

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """All that a group does: the others do not wait for one that has ended."""
        try:
            yield
        finally:
            with self._changed:
                self._groups -= 1
                self._begin()

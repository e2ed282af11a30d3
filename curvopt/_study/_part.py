"""A strategy of the running study, and how its runs are saved."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TYPE_CHECKING

import numpy as np

from ._dataset import Outcome, Point
from ._engine import Saver
from ._evaluation import OnEvaluation, Watch
from ._lane import unpacked
from ._load import marks_of
from ._records import Records
from ._store import Piece, Store


if TYPE_CHECKING:
    from ._study import Strategy


@dataclasses.dataclass
class Part:
    """A strategy of the running study.

    **Attributes:**

    - `strategy`: the strategy.
    - `document`: what is saved about it: its points, and its fields at each.
    - `wanted`: point and seed of each wanted run.
    - `outcome`: the results of these so far.
    - `cohorts`: by number, the cohorts of its runs.
    - `place`: for each run the number of its cohort, and its own number in it.
    - `states`: without a folder, the arrays of the lanes that are kept, by run.
    """

    strategy: "Strategy"
    document: dict[str, Any]
    wanted: Sequence[tuple[Point, int]]
    outcome: Outcome
    cohorts: dict[int, Any]
    place: list[tuple[int, int] | None]
    states: dict[int, list[np.ndarray]] = dataclasses.field(default_factory=dict)

    @property
    def records(self) -> Records:
        return self.outcome.records

    @property
    def unfinished(self) -> bool:
        return bool(self.records.unfinished.any())

    def rows(self, number: int) -> np.ndarray:
        """The indices of the wanted runs that are in a cohort."""
        found = [k for k, place in enumerate(self.place) if place and place[0] == number]
        return np.array(found, int)

    def saver(
        self,
        store: Store,
        number: int,
        layout: Sequence[Mapping[str, Any]],
        every: float,
    ) -> Saver:
        """Saves the runs of a cohort in a folder.

        **Arguments:**

        - `store`: the folder.
        - `number`: the number of the cohort.
        - `layout`: the arrays of a lane.
        - `every`: seconds between two saves.
        """
        name, records = self.strategy.name, self.records

        def save(pieces: Sequence[tuple[int, int, int, list]], seconds: float) -> None:
            found = []
            for k, first, last, state in pieces:
                steps, evaluations = records.between(k, first, last)
                place = self.place[k]
                assert place is not None
                found.append(Piece(place[1], first, last, steps, evaluations, state))
            columns = {
                "steps": found[0].steps.dtype.descr,
                "evaluations": found[0].evaluations.dtype.descr,
                "lane": layout,
            }
            documents = {f"layout/{name}": columns, f"seconds/{name}": seconds}
            store.save(number, found, documents)

        def state(k: int) -> list[np.ndarray]:
            place = self.place[k]
            assert place is not None
            return unpacked(layout, store.state(*place))

        return Saver(save, state, every)

    def keeper(self) -> Saver:
        """Keeps the lanes of runs that end, in memory."""
        keep = lambda pieces, seconds: self.states.update((k, x) for k, _, _, x in pieces)
        return Saver(keep, self.states.__getitem__, math.inf)

    def watch(self, store: Store | None, number: int, function: OnEvaluation) -> Watch:
        """Calls a function of the user at each evaluation of a cohort's runs, and saves
        which it was told of and which runs it stopped."""
        rows, marks = self.rows(number).tolist(), marks_of(self.records, number)
        # Those of runs that are not wanted now are kept.
        known = {key: (store and store.own(key)) or {} for key in marks}

        def save() -> None:
            if store is None:
                return
            found = {}
            for key, values in marks.items():
                steps = {self.place[k]: int(values[k]) for k in rows if values[k] >= 0}
                own = {str(place[1]): step for place, step in steps.items() if place}
                found[key] = known[key] | own
            store.put({key: steps for key, steps in found.items() if steps})

        return Watch(function, self.strategy.name, self.outcome, save)

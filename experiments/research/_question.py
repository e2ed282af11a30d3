"""Research questions, and their findings."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.figure
import xarray as xr

from ._bench import Bench
from ._settings import Setting, SETTINGS


def _kept(folder: Path) -> dict[str, xr.Dataset]:
    """The results in a folder, by setting."""
    return {path.stem: xr.load_dataset(path) for path in sorted(folder.glob("*.nc"))}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the paper takes from the results of a question.

    **Attributes:**

    - `figures`: figures by name.
    - `numbers`: LaTeX texts by the name of their macro, letters only.
    - `tables`: whole `tabular` environments by name.
    """

    figures: Mapping[str, matplotlib.figure.Figure]
    numbers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Question:
    """A research question: how to ask it of one setting, and how to conclude from the
    answers.

    **Attributes:**

    - `name`: its name on the command line, and of its folder of results.
    - `title`: the question in words.
    - `ask`: makes the runs that it needs and returns the results to keep.
    - `conclude`: makes figures, numbers and tables from the results by setting.
    - `settings`: the settings it is asked of; `None` for all that allow it.
    """

    name: str
    title: str
    ask: Callable[[Bench], xr.Dataset]
    conclude: Callable[[Mapping[str, xr.Dataset]], Findings]
    settings: tuple[str, ...] | None = None

    def asked_of(self, name: str, setting: Setting) -> bool:
        """Whether the question is asked of a setting of that name."""
        wanted = self.settings is None or name in self.settings
        return wanted and (setting.questions is None or self.name in setting.questions)

    def findings(self, results: Path) -> Findings:
        """The findings from a folder of results, which may lack some settings."""
        found = _kept(results / self.name)
        return self.conclude({name: found[name] for name in SETTINGS if name in found})


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A question that is answered once, by a measurement instead of runs on settings.

    **Attributes:**

    - `name`: its name on the command line, of its folder of results and of the file there.
    - `title`: the question in words.
    - `measure`: measures and returns the results to keep; its argument is whether to make a
        smoke test only.
    - `conclude`: makes figures, numbers and tables from the results.
    """

    name: str
    title: str
    measure: Callable[[bool], xr.Dataset]
    conclude: Callable[[xr.Dataset], Findings]

    def findings(self, results: Path) -> Findings:
        """The findings from a folder of results."""
        return self.conclude(_kept(results / self.name)[self.name])

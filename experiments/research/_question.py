"""What a question of the research is, and what it finds."""

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
    """What the write-up takes from the results of a question.

    **Attributes:**

    - `figures`: by name.
    - `numbers`: texts for LaTeX, by the name of the macro that each will be: letters only.
    - `tables`: whole `tabular` environments, by name.
    """

    figures: Mapping[str, matplotlib.figure.Figure]
    numbers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Question:
    """A question of the research: how it is asked of one setting, and what is
    concluded from the answers.

    **Attributes:**

    - `name`: on the command line, and of its folder of results.
    - `title`: in words.
    - `ask`: runs what it needs and returns what is kept.
    - `conclude`: makes figures, numbers and tables of what was kept, by setting.
    - `settings`: of which it is asked; `None` for all that do not say otherwise.
    """

    name: str
    title: str
    ask: Callable[[Bench], xr.Dataset]
    conclude: Callable[[Mapping[str, xr.Dataset]], Findings]
    settings: tuple[str, ...] | None = None

    def asked_of(self, name: str, setting: Setting) -> bool:
        """Whether question and setting, of that name, want each other."""
        wanted = self.settings is None or name in self.settings
        return wanted and (setting.questions is None or self.name in setting.questions)

    def findings(self, results: Path) -> Findings:
        """The findings from a folder of results, which may have none of some settings."""
        found = _kept(results / self.name)
        return self.conclude({name: found[name] for name in SETTINGS if name in found})


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A question that is answered once, by measuring and not by runs on a setting.

    **Attributes:**

    - `name`: on the command line, of its folder of results and of the file in it.
    - `title`: in words.
    - `measure`: measures and returns what is kept; the argument is whether only to show
        that everything works.
    - `conclude`: makes figures, numbers and tables of it.
    """

    name: str
    title: str
    measure: Callable[[bool], xr.Dataset]
    conclude: Callable[[xr.Dataset], Findings]

    def findings(self, results: Path) -> Findings:
        """The findings from a folder of results."""
        return self.conclude(_kept(results / self.name)[self.name])

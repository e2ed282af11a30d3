"""The interface of a question. The questions are in `experiments.research`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure


class Findings(Protocol):
    """The findings of a question, by the names that the text refers to.

    **Attributes:**

    - `figures`: each becomes `figures/NAME.pdf`.
    - `numbers`: texts for LaTeX; each becomes a command `\\NAME`.
    - `tables`: complete `tabular` environments; each becomes `tables/NAME.tex`.
    """

    @property
    def figures(self) -> Mapping[str, Figure]: ...

    @property
    def numbers(self) -> Mapping[str, str]: ...

    @property
    def tables(self) -> Mapping[str, str]: ...


class Question(Protocol):
    """A question that the paper answers, in `sections/questions/NAME.tex`.

    **Attributes:**

    - `name`: the name of its section and of the folder with its results.
    - `title`: its title, for LaTeX.
    - `findings`: reads the results, from the folder that has a folder for each question.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def findings(self) -> Callable[[Path], Findings]: ...

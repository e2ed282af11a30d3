"""What the build asks of a question. `experiments.research` has the questions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure


class Findings(Protocol):
    """What was found, by names under which the text refers to it.

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

    - `name`: of its section and of the folder with its results.
    - `title`: for LaTeX.
    - `findings`: reads the results, from the folder that has a folder for each question.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def findings(self) -> Callable[[Path], Findings]: ...

"""The paper. `python -m paper` builds `paper/build/curvopt.pdf` from the sections here, the
results in `paper/results` and the questions of `experiments.research`; `--pictures` draws
the figures of the guides."""

from ._build import build as build
from ._errors import BuildError as BuildError, MissingTeX as MissingTeX
from ._questions import Findings as Findings, Question as Question

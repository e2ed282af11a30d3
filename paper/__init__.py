"""The write-up. `python -m paper` makes `paper/build/curvopt.pdf` of the sections here, the
results in `paper/results` and the questions of `experiments.research`; `--pictures` draws
the figures that the guides show."""

from ._build import build as build
from ._errors import BuildError as BuildError, MissingTeX as MissingTeX
from ._questions import Findings as Findings, Question as Question

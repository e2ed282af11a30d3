"""The research questions, and the figures, tables and numbers that the paper takes from
their results: `python -m experiments research`. Each question is a module of `questions`.
"""

from ._command import Research as Research, research as research
from ._question import (
    Findings as Findings,
    Measurement as Measurement,
    Question as Question,
)
from .questions import QUESTIONS as QUESTIONS

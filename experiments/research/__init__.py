"""The research: questions, asked of problems, and what the write-up takes from the answers.

`python -m experiments research`. Each question is a module of `questions`.
"""

from ._command import Research as Research, research as research
from ._question import (
    Findings as Findings,
    Measurement as Measurement,
    Question as Question,
)
from .questions import QUESTIONS as QUESTIONS

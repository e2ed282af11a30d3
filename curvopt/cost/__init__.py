"""The cost of functions and of a problem's evaluations, by XLA's own count."""

from ._compiled import (
    compile_and_analyse as compile_and_analyse,
    CompiledFunction as CompiledFunction,
)
from ._evaluations import EvaluationCosts as EvaluationCosts

"""What programs cost, by XLA's own count: of a function, and of a problem's evaluations."""

from ._compiled import (
    compile_and_analyse as compile_and_analyse,
    CompiledFunction as CompiledFunction,
)
from ._evaluations import EvaluationCosts as EvaluationCosts

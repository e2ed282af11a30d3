"""Directions, line searches and the curvature rescaling of the learning rate, in JAX."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from . import cost as cost, statistics as statistics
from ._average import AbstractAverage as AbstractAverage
from ._checks import (
    check_count as check_count,
    check_instance as check_instance,
    check_range as check_range,
)
from ._compare import compare as compare, Comparison as Comparison
from ._curvature import (
    AbstractCurvatureMethod as AbstractCurvatureMethod,
    AdjointCurvature as AdjointCurvature,
    CompositeLoss as CompositeLoss,
    CurvatureReport as CurvatureReport,
    EquationReport as EquationReport,
    FiniteDifferenceCurvature as FiniteDifferenceCurvature,
    ForwardCurvature as ForwardCurvature,
    GaussNewtonCurvature as GaussNewtonCurvature,
    HvpCurvature as HvpCurvature,
    quadratic_model as quadratic_model,
    QuadraticModel as QuadraticModel,
    register_rule as register_rule,
    SubsampledCurvature as SubsampledCurvature,
    tag_output as tag_output,
)
from ._declared import (
    count as count,
    hyperparameter as hyperparameter,
    Number as Number,
    OptionalNumber as OptionalNumber,
    Schedule as Schedule,
    schedule as schedule,
)
from ._direction import AbstractDirection as AbstractDirection, Descent as Descent
from ._environment import __version__ as __version__
from ._host_data import HostData as HostData
from ._line import Line as Line, Trial as Trial
from ._line_search import (
    AbstractGradientSearch as AbstractGradientSearch,
    AbstractLineSearch as AbstractLineSearch,
    StepInfo as StepInfo,
)
from ._micro_batched import MicroBatched as MicroBatched
from ._minibatch import minibatch_indices as minibatch_indices
from ._models import (
    AbstractModel as AbstractModel,
    EquinoxModel as EquinoxModel,
    LinenModel as LinenModel,
    NNXModel as NNXModel,
)
from ._partition import (
    array_labels as array_labels,
    block_labels as block_labels,
    layer_labels as layer_labels,
    partition as partition,
)
from ._problem import AbstractProblem as AbstractProblem, Metrics as Metrics
from ._solver import LineSearchMinimiser as LineSearchMinimiser, StepRecord as StepRecord
from ._study import (
    delete_study as delete_study,
    Evaluation as Evaluation,
    Execution as Execution,
    Family as Family,
    final_metric as final_metric,
    FullySharded as FullySharded,
    load_run as load_run,
    load_study as load_study,
    LoadedRun as LoadedRun,
    run_study as run_study,
    Sharding as Sharding,
    Study as Study,
    StudyError as StudyError,
)
from ._supervised import SupervisedProblem as SupervisedProblem
from ._train import train as train, TrainResult as TrainResult
from ._tree import (
    safe_divide as safe_divide,
    scalar_dtype as scalar_dtype,
    tree_dot as tree_dot,
    tree_norm as tree_norm,
    tree_zeros as tree_zeros,
)
from ._tune import (
    best_point as best_point,
    BestPoint as BestPoint,
    tune as tune,
    Tuning as Tuning,
)


if TYPE_CHECKING:
    from . import plots as plots


def __getattr__(name: str) -> ModuleType:
    # Lazy: importing Matplotlib takes as long as importing everything else.
    if name == "plots":
        return importlib.import_module(".plots", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "plots"])

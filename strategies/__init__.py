"""Directions, line searches and averages. Each is one small module; yours has the same
standing.

A remark after a source says where the formula was taken from: *read* is from the paper,
*read in its code* from the authors' code, *restated* from a summary of the paper. Without a
remark the formula is a standard one, or the tests check it against another implementation.
"""

from . import recipes as recipes
from .averages import (
    ExponentialAverage as ExponentialAverage,
    FromEvalParams as FromEvalParams,
    WindowAverage as WindowAverage,
)
from .directions import (
    Adam as Adam,
    BFGS as BFGS,
    DisplacementMomentum as DisplacementMomentum,
    ForwardGradient as ForwardGradient,
    FromDescent as FromDescent,
    FromOptax as FromOptax,
    GradientClipping as GradientClipping,
    HyperplaneSearch as HyperplaneSearch,
    INNAprop as INNAprop,
    LastStep as LastStep,
    LayerwiseRescaling as LayerwiseRescaling,
    LBFGS as LBFGS,
    LevenbergMarquardt as LevenbergMarquardt,
    Momentum as Momentum,
    NonlinearCG as NonlinearCG,
    RMSProp as RMSProp,
    SGD as SGD,
    TruncatedNewton as TruncatedNewton,
    WeightDecay as WeightDecay,
)
from .line_searches import (
    Backtracking as Backtracking,
    BacktrackingArmijo as BacktrackingArmijo,
    BarzilaiBorwein as BarzilaiBorwein,
    CDAT as CDAT,
    Clipped as Clipped,
    CurvatureRescaling as CurvatureRescaling,
    EveryK as EveryK,
    FirstSteps as FirstSteps,
    FromSearch as FromSearch,
    GeneralizedNewton as GeneralizedNewton,
    GrowthLimited as GrowthLimited,
    HagerZhang as HagerZhang,
    HessianAwareScaling as HessianAwareScaling,
    HindsightRescaling as HindsightRescaling,
    LearningRate as LearningRate,
    Polyak as Polyak,
    Restarted as Restarted,
    RobbinsMonro as RobbinsMonro,
    Scheduled as Scheduled,
    Smoothed as Smoothed,
    StepTuned as StepTuned,
    StochasticArmijo as StochasticArmijo,
    StrongWolfe as StrongWolfe,
)
from .transformations import (
    scale_by_cdat as scale_by_cdat,
    scale_by_curvature as scale_by_curvature,
    scale_by_line_search as scale_by_line_search,
    ScaleByLineSearchState as ScaleByLineSearchState,
)

"""Directions and line searches. Each is one small module; yours has the same standing."""

from . import optax as optax, recipes as recipes
from .directions import (
    Adam as Adam,
    DisplacementMomentum as DisplacementMomentum,
    ForwardGradient as ForwardGradient,
    FromDescent as FromDescent,
    FromOptax as FromOptax,
    HyperplaneSearch as HyperplaneSearch,
    INNAprop as INNAprop,
    LastStep as LastStep,
    LBFGS as LBFGS,
    Momentum as Momentum,
    NonlinearCG as NonlinearCG,
    RMSProp as RMSProp,
    SGD as SGD,
)
from .line_searches import (
    Backtracking as Backtracking,
    BacktrackingArmijo as BacktrackingArmijo,
    BarzilaiBorwein as BarzilaiBorwein,
    CDAT as CDAT,
    Clipped as Clipped,
    CurvatureRescaling as CurvatureRescaling,
    EveryK as EveryK,
    FromSearch as FromSearch,
    GeneralizedNewton as GeneralizedNewton,
    GrowthLimited as GrowthLimited,
    HessianAwareScaling as HessianAwareScaling,
    LearningRate as LearningRate,
    Polyak as Polyak,
    Restarted as Restarted,
    RobbinsMonro as RobbinsMonro,
    Scheduled as Scheduled,
    Smoothed as Smoothed,
    StepTuned as StepTuned,
    StochasticArmijo as StochasticArmijo,
)


# Not `optax`: a star must not take the name of the library.
_names = [name for name in dir() if name[0].isupper()]
__all__ = ["recipes", *_names]  # pyright: ignore[reportUnsupportedDunderAll]

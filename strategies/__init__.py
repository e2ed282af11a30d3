"""Directions and line searches. Each is one small module; yours has the same standing."""

from . import recipes as recipes
from .directions import Adam as Adam, Momentum as Momentum, RMSProp as RMSProp, SGD as SGD
from .line_searches import (
    BacktrackingArmijo as BacktrackingArmijo,
    CDAT as CDAT,
    CurvatureRescaling as CurvatureRescaling,
    EveryK as EveryK,
    LearningRate as LearningRate,
)

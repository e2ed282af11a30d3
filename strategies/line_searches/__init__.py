"""How far."""

from .backtracking_armijo import BacktrackingArmijo as BacktrackingArmijo
from .cdat import CDAT as CDAT
from .curvature_rescaling import CurvatureRescaling as CurvatureRescaling
from .every_k import EveryK as EveryK
from .learning_rate import LearningRate as LearningRate

"""How far."""

from .backtracking import Backtracking as Backtracking
from .backtracking_armijo import BacktrackingArmijo as BacktrackingArmijo
from .barzilai_borwein import BarzilaiBorwein as BarzilaiBorwein
from .cdat import CDAT as CDAT
from .clipped import Clipped as Clipped
from .curvature_rescaling import CurvatureRescaling as CurvatureRescaling
from .every_k import EveryK as EveryK
from .from_search import FromSearch as FromSearch
from .generalized_newton import GeneralizedNewton as GeneralizedNewton
from .growth_limited import GrowthLimited as GrowthLimited
from .hessian_aware_scaling import HessianAwareScaling as HessianAwareScaling
from .learning_rate import LearningRate as LearningRate
from .polyak import Polyak as Polyak
from .restarted import Restarted as Restarted
from .robbins_monro import RobbinsMonro as RobbinsMonro
from .scheduled import Scheduled as Scheduled
from .smoothed import Smoothed as Smoothed
from .step_tuned import StepTuned as StepTuned
from .stochastic_armijo import StochasticArmijo as StochasticArmijo

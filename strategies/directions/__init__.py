"""Directions: which way to go."""

from .adam import Adam as Adam
from .bfgs import BFGS as BFGS
from .displacement_momentum import DisplacementMomentum as DisplacementMomentum
from .forward_gradient import ForwardGradient as ForwardGradient
from .from_descent import FromDescent as FromDescent
from .from_optax import FromOptax as FromOptax
from .gradient_clipping import GradientClipping as GradientClipping
from .hyperplane_search import HyperplaneSearch as HyperplaneSearch
from .innaprop import INNAprop as INNAprop
from .last_step import LastStep as LastStep
from .layerwise_rescaling import LayerwiseRescaling as LayerwiseRescaling
from .lbfgs import LBFGS as LBFGS
from .levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from .momentum import Momentum as Momentum
from .nonlinear_cg import NonlinearCG as NonlinearCG
from .rmsprop import RMSProp as RMSProp
from .sgd import SGD as SGD
from .truncated_newton import TruncatedNewton as TruncatedNewton
from .weight_decay import WeightDecay as WeightDecay

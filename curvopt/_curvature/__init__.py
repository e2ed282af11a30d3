from ._adjoint import AdjointCurvature as AdjointCurvature
from ._equation import EquationReport as EquationReport
from ._finite_difference import FiniteDifferenceCurvature as FiniteDifferenceCurvature
from ._forward import ForwardCurvature as ForwardCurvature
from ._gauss_newton import GaussNewtonCurvature as GaussNewtonCurvature
from ._hvp import HvpCurvature as HvpCurvature
from ._jvp import JvpCurvature as JvpCurvature
from ._model import (
    AbstractCurvatureMethod as AbstractCurvatureMethod,
    QuadraticModel as QuadraticModel,
)
from ._output import CompositeLoss as CompositeLoss, tag_output as tag_output
from ._quadratic_model import close_loss as close_loss, quadratic_model as quadratic_model
from ._report import CurvatureReport as CurvatureReport
from ._subsampled import SubsampledCurvature as SubsampledCurvature

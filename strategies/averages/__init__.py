from .exponential_average import ExponentialAverage as ExponentialAverage
from .from_eval_params import FromEvalParams as FromEvalParams
from .window_average import WindowAverage as WindowAverage

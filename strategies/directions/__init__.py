"""Which way."""

from .adam import Adam as Adam
from .momentum import Momentum as Momentum
from .rmsprop import RMSProp as RMSProp
from .sgd import SGD as SGD

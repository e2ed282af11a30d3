"""Methods that claim to need no tuning, with their defaults."""

import optax

import curvopt
from strategies import (
    CDAT,
    EveryK,
    FromOptax,
    GeneralizedNewton,
    LearningRate,
    Polyak,
    SGD,
    StochasticArmijo,
)

from ._averaged import elsewhere, schedule_free_point
from ._bench import Bench


def _plain(tx: optax.GradientTransformation) -> curvopt.LineSearchMinimiser:
    return curvopt.LineSearchMinimiser(FromOptax(tx), LearningRate(1.0))


def untuned(bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    """Rivals with their defaults; those that take a schedule with peak 1 get a cosine."""
    contrib, epoch = optax.contrib, bench.problem.steps_per_epoch
    cosine = optax.cosine_decay_schedule(1.0, bench.steps)
    sgd = lambda rule: curvopt.LineSearchMinimiser(SGD(), rule)
    return {
        "Prodigy": _plain(contrib.prodigy(cosine)),
        "D-Adaptation": _plain(contrib.dadapt_adamw(cosine)),
        "Mechanic": _plain(contrib.mechanize(optax.adam(cosine))),
        "MoMo": _plain(contrib.momo()),
        "MoMo-Adam": _plain(contrib.momo_adam()),
        "GeN": sgd(EveryK(GeneralizedNewton(), 4)),
        "CDAT": sgd(CDAT()),
        "SLS": sgd(StochasticArmijo(steps_per_epoch=epoch)),
        "SPS": sgd(Polyak(steps_per_epoch=epoch)),
    }


def averaged() -> dict[str, curvopt.LineSearchMinimiser]:
    """A rival with its defaults that is evaluated at an average of the parameters, too."""
    return {"DoG": _plain(optax.contrib.dog())}


def schedule_free() -> dict[str, curvopt.LineSearchMinimiser]:
    """Schedule-free AdamW with its defaults: metrics are evaluated at its average,
    mini-batch losses at the trained point."""
    tx = optax.contrib.schedule_free_adamw()
    return {"schedule-free": elsewhere(tx, schedule_free_point)}

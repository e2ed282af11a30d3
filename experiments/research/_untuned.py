"""Methods that claim to need no tuning, with their defaults."""

import optax

import curvopt
from strategies import (
    CDAT,
    EveryK,
    FromEvalParams,
    FromOptax,
    GeneralizedNewton,
    LearningRate,
    Polyak,
    SGD,
    StochasticArmijo,
    WindowAverage,
)

from ._bench import Bench


def _plain(
    tx: optax.GradientTransformation, average: curvopt.AbstractAverage | None = None
) -> curvopt.LineSearchMinimiser:
    return curvopt.LineSearchMinimiser(FromOptax(tx), LearningRate(1.0), average=average)


def untuned(bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    """Rivals with their defaults; those that take a schedule with peak 1 get a cosine. Two
    of them are evaluated at an average of the parameters, as they are meant to be; DoG at
    its last point, too."""
    contrib, epoch = optax.contrib, bench.problem.steps_per_epoch
    cosine = optax.cosine_decay_schedule(1.0, bench.steps)
    sgd = lambda rule: curvopt.LineSearchMinimiser(SGD(), rule)
    return {
        "Prodigy": _plain(contrib.prodigy(cosine)),
        "D-Adaptation": _plain(contrib.dadapt_adamw(cosine)),
        "Mechanic": _plain(contrib.mechanize(optax.adam(cosine))),
        "MoMo": _plain(contrib.momo()),
        "MoMo-Adam": _plain(contrib.momo_adam()),
        "DoG": _plain(contrib.dog()),
        "DoG, averaged": _plain(contrib.dog(), WindowAverage()),
        "schedule-free": _plain(
            contrib.schedule_free_adamw(), FromEvalParams(contrib.schedule_free_eval_params)
        ),
        "GeN": sgd(EveryK(GeneralizedNewton(), 4)),
        "CDAT": sgd(CDAT()),
        "SLS": sgd(StochasticArmijo(steps_per_epoch=epoch)),
        "SPS": sgd(Polyak(steps_per_epoch=epoch)),
    }

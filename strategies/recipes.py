r"""Composed and untuned solvers for mini-batches: what to try first.

`layerwise` is the one to begin with: it measures each step on the batch after it, and has
a step size for each layer. `hindsight` has one for all of them. The others measure a step
before it is made, on its own batch. They

- measure slope and curvature along the *fresh* part of the direction (what this gradient
  alone contributes): a direction with memory repeats itself, so that a step sized for one
  use of it is used many times;
- average both, because on one mini-batch their ratio is noise;
- limit the growth of the step size, because the ratio has no meaning where the curvature
  vanishes, as it can at initialisation.

All are this project's choices. They come from the research in `experiments/research`, on
separate seeds: logistic regression and an autoencoder (MNIST), an MLP and LeNet
(Fashion-MNIST) and a GRU (Shakespeare).
"""

import functools

import optax

import curvopt

from .averages import WindowAverage
from .directions import LayerwiseRescaling
from .line_searches import (
    CurvatureRescaling,
    GrowthLimited,
    HindsightRescaling,
    LearningRate,
)


# A schedule is static: a new function for the same horizon would recompile.
@functools.cache
def _cosine(steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(1.0, steps)


@functools.cache
def _linear(steps: int) -> optax.Schedule:
    """One in the first half of the run, then linear to zero."""
    return optax.linear_schedule(1.0, 0.0, steps - steps // 2, steps // 2)


def _horizon(
    steps: int | None,
) -> tuple[optax.Schedule | None, curvopt.AbstractAverage | None]:
    """The schedule of a run of that many steps, or an average."""
    if steps is None:
        return None, WindowAverage()
    curvopt.check_count("steps", steps)
    return _linear(steps), None


def hindsight(
    direction: curvopt.AbstractDirection,
    *,
    steps: int | None = None,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
) -> curvopt.LineSearchMinimiser:
    r"""The curvature rescaling in hindsight: see [`strategies.HindsightRescaling`][].

    With a number of steps, the step size falls linearly to zero in the second half of the
    run. Without one, it falls by itself, more slowly, and the answer is an average of the
    parameters, [`strategies.WindowAverage`][]. $\ell$ is the default of the line search:
    for directions with a memory 0.8 with a number of steps and 0.65 without, for others 2
    and 1.5.

    The first steps are short, and grow over some tens of steps: a run should have some
    hundreds. The numbers come from five problems. On ten others Adam with this recipe loses
    1.6 % of the best decrease of the loss in the mean, or 1.7 % without the number of
    steps; Adam with a cosine tuned for each of them 2.5 %, and Prodigy 5.0 %. (`python -m
    experiments research --questions rivals heldout`; the questions of the rivals and of
    what was held out in `paper`.)

    **Arguments:**

    - `direction`: the direction.
    - `steps`: the number of steps of the run; `None` if it is not known.
    - `curvature`: the curvature method.

    **Returns:**

    A [`curvopt.LineSearchMinimiser`][].
    """
    schedule, average = _horizon(steps)
    rule = HindsightRescaling(schedule=schedule)
    return curvopt.LineSearchMinimiser(
        direction, rule, curvature=curvature, average=average
    )


def layerwise(
    direction: curvopt.AbstractDirection,
    *,
    steps: int | None = None,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.SubsampledCurvature(1 / 16),
) -> curvopt.LineSearchMinimiser:
    r"""The same with a step size for each layer, or for each block of a deep network: see
    [`strategies.LayerwiseRescaling`][].

    All else is as in `hindsight`, but the curvature is that of a sixteenth of the batch, so
    that a step costs 1.14 gradients in the median of five problems. On ten others Adam
    loses 0.41 % of the best decrease of the loss in the mean, or 0.33 % without the number
    of steps. (`python -m experiments research --questions rivals heldout layers`.)

    **Arguments:**

    - `direction`: the direction.
    - `steps`: the number of steps of the run; `None` if it is not known.
    - `curvature`: the curvature method.

    **Returns:**

    A [`curvopt.LineSearchMinimiser`][].
    """
    schedule, average = _horizon(steps)
    layers = LayerwiseRescaling(direction, schedule=schedule)
    return curvopt.LineSearchMinimiser(
        layers, LearningRate(1.0), curvature=curvature, average=average
    )


def rescaled(
    direction: curvopt.AbstractDirection,
    *,
    steps: int,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
) -> curvopt.LineSearchMinimiser:
    r"""The curvature rescaling with a schedule: $\ell$ falls from 2 to 0 by a cosine over
    the run, with averages of decay 0.99.

    It starts beyond the edge of stability of a single direction, which the noise and the
    schedule allow, passes $\ell = 1$ half-way, and ends as convergence.

    Among 4 initial values of $\ell$, from 1 to 2.8, and averages of decay 0.9, 0.97 and
    0.99, this pair loses least of the decrease of the loss that the best rate reaches,
    tuned for each problem and direction under the same schedule: 1.4 % in the mean
    over 4 directions on 5 problems, and 13 % in the worst case, Momentum on the
    autoencoder. In 6 of the 20 cases it beats the tuned rate. With averages of 0.9 it loses
    11 %, because $\ell = 2$ then fails on logistic regression.
    (`python -m experiments research --questions recipe`; the question of the recipe in
    `paper`.)

    Two curvature methods that need a little help from the problem do as well or better.
    `curvopt.SubsampledCurvature(1 / 16)`, on a sixteenth of the batch, reduces the cost of
    a step from 1.7 gradients to 1.1; with SGD and Adam on 5 problems no test finds a
    different final loss. `curvopt.GaussNewtonCurvature()` costs no more, and ends lower in
    7 of these 10 cases and higher in none (with averages of 0.9 and $\ell$ from 1).
    (`--questions cheapening guards`.)

    **Arguments:**

    - `direction`: the direction; slope and curvature are measured along its fresh part.
    - `steps`: the number of steps of the run.
    - `curvature`: the curvature method.

    **Returns:**

    A [`curvopt.LineSearchMinimiser`][].
    """
    curvopt.check_count("steps", steps)
    rule = CurvatureRescaling(2.0, _cosine(steps), average=0.99, along="fresh")
    return curvopt.LineSearchMinimiser(direction, GrowthLimited(rule), curvature=curvature)


def rescaled_constant(
    direction: curvopt.AbstractDirection,
    *,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
) -> curvopt.LineSearchMinimiser:
    r"""The curvature rescaling at constant $\ell = 1/2$ (convergence), for runs whose
    length is not known, with averages of decay 0.9.

    Among the powers of two from 1/16 to 8, kept constant, one half loses least of the
    decrease that the best $\ell$ reaches: 5.3 % in the mean over 4 directions on 12
    settings (logistic regression, an autoencoder, LeNet, a GRU, a small ResNet and
    transformer, and an MLP of several widths and batch sizes). It loses 89 % in the worst
    case, SGD on the ResNet, and at most 16 % elsewhere. With $\ell = 1$ (exploration) a
    third of the decrease is lost on logistic regression with SGD and RMSProp, and more on
    the ResNet.
    (`python -m experiments research --questions scale`.)

    **Arguments:**

    - `direction`: the direction; slope and curvature are measured along its fresh part.
    - `curvature`: the curvature method.

    **Returns:**

    A [`curvopt.LineSearchMinimiser`][].
    """
    rule = CurvatureRescaling(0.5, average=0.9, along="fresh")
    return curvopt.LineSearchMinimiser(direction, GrowthLimited(rule), curvature=curvature)

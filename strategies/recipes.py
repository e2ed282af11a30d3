r"""Line searches for mini-batches, composed and untuned: what to try first.

Common to all: slope and curvature are measured along the *fresh* part of the direction
(what this gradient alone contributes), because a direction with memory repeats itself,
and a step sized for one use of it is used many times; both are averaged, because on one
mini-batch their ratio is noise; and growth is limited, because where the curvature
vanishes, as it can at initialisation, the ratio has no meaning.

These are this project's choices; no direction has numbers of its own. They were chosen
for SGD, Momentum, RMSProp and Adam alike by the research in `experiments/research`, from
seeds of their own: on logistic regression and an autoencoder (MNIST), an MLP and LeNet
(Fashion-MNIST) and a GRU (Shakespeare). What counts is the way down that the best learning
rate makes, tuned for that problem and direction, with the same schedule.
"""

import functools

import optax

import curvopt

from .line_searches import CurvatureRescaling, GrowthLimited


@functools.cache
def _cosine(steps: int) -> optax.Schedule:
    # Cached: the same horizon is the same function, and compiles nothing anew.
    return optax.cosine_decay_schedule(1.0, steps)


def rescaled(
    direction: curvopt.AbstractDirection,
    *,
    steps: int,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
) -> curvopt.LineSearchMinimiser:
    r"""The rescaling that explores, then converges: $\ell$ falls from 2 to 0 by a cosine
    over the run, with averages of decay 0.99.

    It starts beyond the edge of stability of a single direction, which the noise and the
    schedule allow, passes $\ell = 1$ half-way, and ends as convergence.

    Of 4 values of the first $\ell$, from 1 to 2.8, and the averages 0.9, 0.97 and 0.99 this
    pair misses least of the way that tuned rates make: 1.4 % in the mean over 4 directions
    on 5 problems, and 13 % where it is worst, with Momentum on the autoencoder; in 6 of
    the 20 cases it beats the tuned rate. With averages of 0.9 it misses 11 %, because
    $\ell = 2$ then wrecks logistic regression.
    (`python -m experiments research --questions recipe`; the question of the recipe in
    `paper`.)

    Two methods that ask something of the problem do as well or better. A sixteenth of the
    batch, `curvopt.SubsampledCurvature(1 / 16)`, makes a step cost 1.1 gradients instead of
    1.7, and no test finds another final loss, with SGD and Adam on 5 problems. Gauss-Newton
    curvature, `curvopt.GaussNewtonCurvature()`, costs no more, and ends lower in 7 of these
    10 cases and higher in none (with averages of 0.9 and a first $\ell$ of 1).
    (`--questions cheapening guards`.)

    **Arguments:**

    - `direction`: which way; its `fresh` part is what is measured.
    - `steps`: how many steps the run will have.
    - `curvature`: how the curvature is had.

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
    r"""The rescaling at constant $\ell = 1/2$, convergence, for runs without a horizon,
    with averages of decay 0.9.

    Of the powers of two from 1/16 to 8 one half is the one with which least of the way
    down to the loss at the best $\ell$ is lost, at constant $\ell$: 5.3 % in the mean over
    4 directions on 12 settings (logistic regression, an autoencoder, LeNet, a GRU, a small
    ResNet and transformer, and an MLP of several widths and batch sizes). It is 89 % where
    it is worst, with SGD on the ResNet, and at most 16 % elsewhere. With $\ell = 1$,
    exploration, a third of the way is lost on logistic regression with SGD and RMSProp, and
    more on the ResNet.
    (`python -m experiments research --questions scale`.)

    **Arguments:**

    - `direction`: which way; its `fresh` part is what is measured.
    - `curvature`: how the curvature is had.

    **Returns:**

    A [`curvopt.LineSearchMinimiser`][].
    """
    rule = CurvatureRescaling(0.5, average=0.9, along="fresh")
    return curvopt.LineSearchMinimiser(direction, GrowthLimited(rule), curvature=curvature)

"""Line searches for mini-batches, composed and untuned: what to try first.

Common to all: slope and curvature are measured along the *fresh* part of the direction
(what this gradient alone contributes), because a direction with memory repeats itself,
and a step sized for one use of it is used many times; both are averaged, because on one
mini-batch their ratio is noise; and growth is limited, because where the curvature
vanishes, as it can at initialisation, the ratio has no meaning.

These are this project's choices. The numbers were chosen on the Fashion-MNIST network of
`python -m experiments compare`, on seeds of their own, to serve SGD, Momentum, RMSProp and
Adam alike; no direction has numbers of its own.

They do not carry over to every problem: on logistic regression a first learning rate of 2
with averages this short wrecks SGD and RMSProp (the question of the recipe in
`experiments/research`). Begin lower there.
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
    direction: curvopt.AbstractDirection, *, steps: int
) -> curvopt.LineSearchMinimiser:
    r"""The rescaling that explores, then converges: $\ell$ falls from 2 to 0 by a cosine
    over the run.

    It starts beyond the edge of stability of a single direction, which the noise and the
    schedule allow, passes $\ell = 1$ half-way, and ends as convergence.

    **Arguments:**

    - `direction`: which way; its `fresh` part is what is measured.
    - `steps`: how many steps the run will have.

    **Returns:**

    A [`curvopt.LineSearchMinimiser`][].
    """
    curvopt.check_count("steps", steps)
    rule = CurvatureRescaling(2.0, _cosine(steps), average=0.9, along="fresh")
    return curvopt.LineSearchMinimiser(direction, GrowthLimited(rule))


def rescaled_constant(
    direction: curvopt.AbstractDirection,
) -> curvopt.LineSearchMinimiser:
    r"""The rescaling at constant $\ell = 1$, exploration, for runs without a horizon.

    **Arguments:**

    - `direction`: which way; its `fresh` part is what is measured.

    **Returns:**

    A [`curvopt.LineSearchMinimiser`][].
    """
    rule = CurvatureRescaling(1.0, average=0.9, along="fresh")
    return curvopt.LineSearchMinimiser(direction, GrowthLimited(rule))

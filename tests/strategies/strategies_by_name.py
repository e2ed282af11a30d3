"""Every direction and every line search, as the common suite runs them."""

import itertools

import optax
import optimistix as optx
import pytest

import curvopt
from strategies import (
    Adam,
    Backtracking,
    BacktrackingArmijo,
    BarzilaiBorwein,
    BFGS,
    CDAT,
    Clipped,
    CurvatureRescaling,
    DisplacementMomentum,
    EveryK,
    FirstSteps,
    ForwardGradient,
    FromDescent,
    FromOptax,
    FromSearch,
    GeneralizedNewton,
    GradientClipping,
    GrowthLimited,
    HagerZhang,
    HessianAwareScaling,
    HindsightRescaling,
    HyperplaneSearch,
    INNAprop,
    LastStep,
    LayerwiseRescaling,
    LBFGS,
    LearningRate,
    LevenbergMarquardt,
    Momentum,
    NonlinearCG,
    Polyak,
    Restarted,
    RMSProp,
    RobbinsMonro,
    Scheduled,
    SGD,
    Smoothed,
    StepTuned,
    StochasticArmijo,
    StrongWolfe,
    TruncatedNewton,
    WeightDecay,
)


DIRECTIONS = {
    "SGD": SGD(),
    "Momentum": Momentum(),
    "Momentum, classical": Momentum(0.5, dampening=0),
    "Momentum, Nesterov": Momentum(0.5, nesterov=True),
    "RMSProp": RMSProp(),
    "Adam": Adam(),
    "NonlinearCG": NonlinearCG(),
    "LBFGS": LBFGS(4),
    "BFGS": BFGS(),
    "TruncatedNewton": TruncatedNewton(3),
    "LevenbergMarquardt": LevenbergMarquardt(3),
    "ForwardGradient": ForwardGradient(),
    "HyperplaneSearch": HyperplaneSearch((SGD(), LastStep())),
    "INNAprop": INNAprop(0.1),
    "FromOptax": FromOptax(optax.chain(optax.trace(0.5), optax.scale(-0.5))),
    "FromDescent": FromDescent(optx.SteepestDescent()),
    "DisplacementMomentum": DisplacementMomentum(SGD(), CurvatureRescaling(0.25), 0.5),
    "LayerwiseRescaling": LayerwiseRescaling(
        Momentum(0.5), 0.4, labels=curvopt.array_labels, first=0.05
    ),
    "GradientClipping": GradientClipping(Momentum(0.5), 2.0),
    "WeightDecay": WeightDecay(SGD(), 1e-3),
}

LINE_SEARCHES = {
    "LearningRate": LearningRate(0.1, lambda count: 0.99**count),
    "RobbinsMonro": RobbinsMonro(0.15, 0.6),
    "CurvatureRescaling": CurvatureRescaling(),
    "CurvatureRescaling, fresh": CurvatureRescaling(0.25, average=0.9, along="fresh"),
    "CDAT": CDAT(1.0),
    "GeneralizedNewton": GeneralizedNewton(0.02, 0.5),
    "BacktrackingArmijo": BacktrackingArmijo(),
    "StochasticArmijo": StochasticArmijo(),
    "Polyak": Polyak(),
    "BarzilaiBorwein": BarzilaiBorwein(0.01),
    "StepTuned": StepTuned(0.1),
    "HessianAwareScaling": HessianAwareScaling(),
    "HindsightRescaling": HindsightRescaling(0.4, first=0.1),
    "FromSearch": FromSearch(optx.BacktrackingArmijo()),
    "Backtracking": Backtracking(CurvatureRescaling()),
    "StrongWolfe": StrongWolfe(LearningRate(1.0)),
    "HagerZhang": HagerZhang(CurvatureRescaling()),
    "FirstSteps": FirstSteps(CurvatureRescaling(), LearningRate(0.1), 2),
    "EveryK": EveryK(CurvatureRescaling(0.25, average=0.5), 3),
    "Clipped": Clipped(CurvatureRescaling(0.25), min_step_size=1e-3, max_step_size=0.2),
    "Smoothed": Smoothed(CurvatureRescaling(0.25), 0.5),
    "Scheduled": Scheduled(CurvatureRescaling(0.25), lambda count: 0.99**count),
    "GrowthLimited": GrowthLimited(CurvatureRescaling(0.25), 1.5, 0.1),
    "Restarted": Restarted(GrowthLimited(CurvatureRescaling(0.25, average=0.5), 1.5, 0.1)),
}

# Rules that accept nothing but sufficient decrease.
MONOTONE = {
    "BacktrackingArmijo",
    "HessianAwareScaling",
    "FromSearch",
    "Backtracking",
    "StrongWolfe",
    "HagerZhang",
}

# INNAprop's fresh part is a small part of it: sized by that, the whole is far too long.
# Newton's steps differ too much in length for an average of step sizes.
DIVERGES = {("INNAprop", "CurvatureRescaling, fresh"), ("TruncatedNewton", "Smoothed")}

# Directions in units of the gradient, without much memory.
_OF_GRADIENTS = {"SGD", "FromDescent", "FromOptax", "Momentum, Nesterov", "NonlinearCG"}


def promises_progress(direction: str, rule: str) -> bool:
    """Whether a pair, set up as here, must come down on a convex quadratic."""
    # The length of its direction is part of the method.
    if direction == "INNAprop":
        return rule in MONOTONE
    # These read the gradient's own scale from the last steps, or from the loss.
    if rule in {"Polyak", "BarzilaiBorwein", "StepTuned"}:
        return direction in _OF_GRADIENTS
    # A direction drawn at random, or of length one in every coordinate, at a fixed rate.
    if rule in {"LearningRate", "RobbinsMonro", "FirstSteps"}:
        return direction not in {"ForwardGradient", "RMSProp", "Adam"}
    return True


def covering(*settings):
    """Few rows of a direction, a line search and a setting, in which each direction and
    each line search meets every setting, and no pair meets twice."""
    directions = list(DIRECTIONS)
    return [
        (directions[(i + 5 * j) % len(directions)], rule, setting)
        for j, setting in enumerate(settings)
        for i, rule in enumerate(LINE_SEARCHES)
    ]


def other_pairs(*settings):
    """The pairs that are not in `covering`, which meet the settings in turn."""
    few = {row[:2] for row in covering(*settings)}
    pairs = itertools.product(DIRECTIONS, LINE_SEARCHES)
    others = [pair for pair in pairs if pair not in few]
    return [(*pair, setting) for pair, setting in zip(others, itertools.cycle(settings))]


def marked(row, is_of_few):
    return pytest.param(*row, marks=() if is_of_few else pytest.mark.product)


# Each line search with a direction, and each direction with one at least.
PARTNERS = {rule: direction for direction, rule, _ in covering(None)}

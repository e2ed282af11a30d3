import math
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from ._forward import ForwardCurvature
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel


class SubsampledCurvature(AbstractCurvatureMethod):
    r"""The curvature on the first examples of a batch.

    Value, gradient and slope are those of the whole batch.

    ```python
    curvopt.SubsampledCurvature(1 / 4, batch=lambda args: args)  # args are (x, labels)
    ```

    It is an unbiased estimate if the loss is a mean over the examples and these are in
    random order, as in mini-batches. A loss that is a *sum* would need the factor
    $1 / \text{fraction}$, which is not applied. Batch normalisation sees only the part.
    Examples in another order, by class for instance, must be shuffled first.

    It evaluates the loss again on the part, so it costs about `fraction` times a whole
    forward method: with the default, about 1.3 `fraction` gradients.

    **Arguments:**

    - `fraction`: how much of the batch, in (0, 1]; at least one example is taken.
    - `batch`: a function that picks the examples out of the loss's `args`: a pytree of
        arrays, each with the examples along its first axis. The default picks `args[0]`,
        the data in [`curvopt.AbstractProblem`][].
    - `curvature`: the curvature method for the part.

    **Raises:**

    `ValueError` if the fraction is out of range, or the arrays of the batch do not agree
    on the number of examples.
    """

    fraction: float = eqx.field(static=True)
    batch: Callable[[Any], PyTree] = eqx.field(static=True, default=operator.itemgetter(0))
    curvature: AbstractCurvatureMethod = ForwardCurvature()

    def __check_init__(self) -> None:
        number = isinstance(self.fraction, (int, float))
        if not number or not 0 < self.fraction <= 1:
            raise ValueError(
                f"fraction must be above 0 and at most 1, but it is {self.fraction!r}."
            )
        if not callable(self.batch):
            raise ValueError(
                "batch must be a function that picks the examples out of the loss's args, "
                f"but it is {self.batch!r}. Pass a curvature method as `curvature=`."
            )

    def _part(self, args: PyTree) -> PyTree:
        try:
            examples = self.batch(args)
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(
                "SubsampledCurvature found no examples in the loss's args: "
                f"{type(error).__name__}: {error}. The default is args[0]; otherwise pass "
                "`batch=lambda args: ...`, which picks them out."
            ) from error
        self._check_rest(args, examples)
        sizes = {jnp.shape(x)[:1] for x in jtu.tree_leaves(examples)}
        if len(sizes) != 1 or () in sizes:
            raise ValueError(
                "the arrays of a batch must all have the examples along their first axis, "
                f"but these axes are {sorted(sizes)}. Pass `batch=lambda args: ...`, which "
                "picks the examples out of the loss's args."
            )
        ((size,),) = sizes
        size = max(1, math.ceil(self.fraction * size))
        part = jtu.tree_map(lambda x: x[:size], examples)
        try:
            return eqx.tree_at(self.batch, args, part)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(
                "batch must pick parts of the loss's args unchanged, without computing or "
                "slicing: `fraction` does the slicing. If args is one array, pass "
                "`batch=lambda args: args`."
            ) from error

    def _check_rest(self, args: PyTree, examples: PyTree) -> None:
        """Raise if of `(x, labels)` only `x` was picked: a loss that gathers would be
        silently wrong."""
        if not (isinstance(args, tuple) and eqx.is_array(examples)):
            return
        for k, other in enumerate(args):
            alike = eqx.is_array(other) and jnp.shape(other)[:1] == examples.shape[:1]
            if alike and examples.ndim > 0 and other is not examples:
                raise ValueError(
                    f"args[{k}] has {examples.shape[0]} entries along its first axis, like "
                    "the examples, but is not picked. Pass `batch=lambda args: args`, or "
                    "another function that picks all that belongs to the examples."
                )

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        part = self._part(args)
        # Lazy: a step that never reads the curvature does not even trace it.
        of_part = lambda: self.curvature.model(fn, y, part)
        return QuadraticModel.of_loss(
            fn,
            y,
            args,
            curvature=lambda u: of_part().curvature(u),
            curvature_matrix=lambda us: of_part().curvature_matrix(us),
            report=lambda: of_part().report(),
        )

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree, Scalar

from ._average import AbstractAverage, AverageState
from ._checks import check_choice, check_instance, check_key, check_range
from ._curvature import (
    AbstractCurvatureMethod,
    AdjointCurvature,
    ForwardCurvature,
    HvpCurvature,
    JvpCurvature,
    quadratic_model,
)
from ._declared import cast_hyperparameters
from ._describe import readable
from ._direction import AbstractDirection
from ._line import Line, not_measured
from ._line_search import AbstractGradientSearch, AbstractLineSearch, StepInfo
from ._tree import (
    at_least_float32,
    pack_keys,
    promotion,
    scalar_dtype,
    tree_allfinite,
    tree_cast,
    tree_copy,
    tree_norm,
    unpack_keys,
)


class StrategyState(eqx.Module):
    """The states of the direction and of the line search between two steps, and of the
    average of the points, if there is one."""

    direction: Any
    line_search: Any
    average: AverageState | None = None

    def answer(self, y: PyTree[Array]) -> PyTree[Array]:
        """The parameters that a solver returns: the average, or the last point.

        **Arguments:**

        - `y`: the last point.

        **Returns:**

        A pytree like `y`, in its dtypes.
        """
        return y if self.average is None else tree_cast(self.average.point, y)


class StepRecord(eqx.Module):
    r"""The record of one step.

    **Attributes:**

    - `loss`: the loss at the start of the step.
    - `step_size`: the step size $\tau$ in $y + \tau u$.
    - `gradient_norm`: the Euclidean norm of the gradient at the start of the step; `nan` if
        the direction does not read the gradient.
    - `info`: the line search's [`curvopt.StepInfo`][].
    """

    loss: Scalar
    step_size: Scalar
    gradient_norm: Scalar
    info: StepInfo


_Known: TypeAlias = tuple[Scalar, PyTree[Array]]


class _SolverState(eqx.Module):
    count: Int[Array, ""]
    strategy: StrategyState
    record: StepRecord
    known: _Known | None  # loss and gradient where the last step ended, if it has them
    previous: PyTree[Array] | None  # where the last step started, if it has not
    y_converged: Bool[Array, ""]  # whether the last update was within tolerance
    terminate: Bool[Array, ""]
    finite: Bool[Array, ""]  # whether all values of the last step were finite


# These methods compute the same number, at different costs.
_EXACT = (AdjointCurvature, ForwardCurvature, HvpCurvature)


# Module-level functions, not closures: two equal solvers then share one compiled program.
def _print_step(**kwargs: tuple[str, Any]) -> None:
    names = ", ".join(f"{name}: {{}}" for name, _ in kwargs.values())
    jax.debug.print(names, *(value for _, value in kwargs.values()))


def _print_nothing(**kwargs: tuple[str, Any]) -> None:
    del kwargs


def _select(condition: Bool[Array, ""], a: PyTree, b: PyTree) -> PyTree[Array]:
    return jtu.tree_map(lambda a, b: jnp.where(condition, a, b), a, b)


def _alignment(line: Line) -> Scalar:
    """The descent of `u` per unit length as a fraction of its fresh part's, at most 1; it
    is 1 if there is no memory, or nothing to compare."""
    # By identity, while tracing: `Descent` without a fresh part has `u` twice.
    if line.u is line.fresh.u:
        return jnp.ones(())
    own = jnp.abs(line.slope) * tree_norm(line.fresh.u)
    offered = jnp.abs(line.fresh.slope) * tree_norm(line.u)
    ratio = own / jnp.where(offered > 0, offered, 1)
    return jnp.where(offered > 0, jnp.minimum(ratio, 1), 1)


class LineSearchMinimiser(optx.AbstractMinimiser):
    r"""A direction composed with a line search: $y^+ = y + \tau u$.

    A genuine Optimistix solver, for deterministic problems, and the update that
    [`curvopt.train`][] and [`curvopt.run_study`][] repeat on mini-batches.

    ```python
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())
    solution = optx.minimise(loss, solver, y0, args)
    ```

    Each step makes one update. `minimise` stops when the change in $y$ and the change in
    the loss that it caused are both within `atol + rtol * |.|` in `norm`. A zero step, with
    which a rule refuses to move, does not count. A direction with memory may be nearly
    orthogonal to the gradient, and its steps then vanish far from any minimum. The change
    in $y$ is therefore divided by the descent of `u` per unit length, as a fraction of that
    of its fresh part. This is still a test of the steps: a schedule can make them short
    too.

    The solve ends with `optx.RESULTS.nonfinite` if the loss is not finite at the start of a
    step, if a step is refused because a slope, curvature or trial is not finite, or if a
    step would make the parameters non-finite. It then returns the last point with a finite
    loss (the initial point, if there is none), in place of any average. The auxiliary
    output of the solution is evaluated at the solution.

    `options`: `key`, a `jax.random.key` for random directions (default
    `jax.random.key(0)`); `autodiff_mode="fwd"` for a loss without reverse mode, whose
    gradient then costs one `jvp` per parameter, as in all Optimistix solvers.

    **Arguments:**

    - `direction`: the descent direction, a [`curvopt.AbstractDirection`][].
    - `line_search`: sets the step size along it, a [`curvopt.AbstractLineSearch`][].
    - `rtol`, `atol`, `norm`: tolerances, as in all Optimistix solvers.
    - `curvature`: the curvature method, used by the line searches that need it.
    - `average`: a [`curvopt.AbstractAverage`][] of the points. It is then the answer, in
        place of the last point: it is what `minimise` returns, and what `train` and
        `run_study` evaluate. The steps do not see it.
    - `verbose`: `True` to print each step, or a callable whose keyword arguments are pairs
        `(name, value)`, as in Optimistix.
    """

    direction: AbstractDirection
    line_search: AbstractLineSearch
    rtol: float
    atol: float
    norm: Callable[[PyTree], Scalar]
    curvature: AbstractCurvatureMethod
    average: AbstractAverage | None
    verbose: Callable[..., None] = eqx.field(static=True)

    def __init__(
        self,
        direction: AbstractDirection,
        line_search: AbstractLineSearch,
        rtol: float = 1e-6,
        atol: float = 1e-6,
        norm: Callable[[PyTree], Scalar] = optx.max_norm,
        *,
        curvature: AbstractCurvatureMethod = AdjointCurvature(),
        average: AbstractAverage | None = None,
        verbose: bool | Callable[..., None] = False,
    ):
        for name, value, kind in (
            ("direction", direction, AbstractDirection),
            ("line_search", line_search, AbstractLineSearch),
            ("curvature", curvature, AbstractCurvatureMethod),
        ):
            check_instance(name, value, kind)
        if average is not None:
            check_instance("average", average, AbstractAverage)
        # A curvature method passed by position would end up here.
        for name, value in (("rtol", rtol), ("atol", atol)):
            if isinstance(value, eqx.Module):
                raise ValueError(
                    f"{name} must be a number, but it is {value!r}. Pass a curvature "
                    "method by keyword: `curvature=...`."
                )
            check_range(name, value, at_least=0)
        if not callable(norm):
            raise ValueError(
                "norm must be a function of a pytree, such as optimistix.max_norm, but it "
                f"is {norm!r}."
            )
        if not callable(verbose):
            check_choice("verbose", verbose, (True, False))
        self.direction = direction
        self.line_search = line_search
        self.rtol = rtol
        self.atol = atol
        self.norm = norm
        self.curvature = curvature
        self.average = average
        if not callable(verbose):
            verbose = _print_step if verbose else _print_nothing
        self.verbose = verbose

    def __repr__(self) -> str:
        return readable(self)

    def init_strategy(self, y: PyTree[Array], key: PRNGKeyArray) -> StrategyState:
        """The states of the strategies before the first step. They share no buffers, so
        that they can be donated."""
        return StrategyState(
            self.direction.checked_init(y, key),
            self.line_search.checked_init(y),
            None if self.average is None else self.average.checked_init(y),
        )

    def update(
        self,
        fn: Callable[[PyTree, Any], tuple[Scalar, Any]],
        y: PyTree[Array],
        args: Any,
        count: Int[Array, ""],
        state: StrategyState,
    ) -> tuple[PyTree[Array], StrategyState, StepRecord, Any]:
        """Make one step on any loss, as `minimise`, `train` and `run_study` all do.

        **Arguments:**

        - `fn`: `fn(y, args) -> (loss, aux)`.
        - `y`: the parameters.
        - `args`: this step's data, used by every evaluation in it.
        - `count`: how many steps were made before this one.
        - `state`: the states of the strategies.

        **Returns:**

        The new parameters, the new states, a [`curvopt.StepRecord`][], and the
        auxiliary output *at `y`*. `state.answer(y)` is the average of the parameters, if
        the solver has one.

        **Raises:**

        `ValueError` if the direction does not match the parameters, or the state is that of
        a solver without an average.
        """
        # Only our own arithmetic is promoted; the user's loss keeps the user's setting.
        with promotion() as keeps_setting:
            fn = keeps_setting(fn)
            new = self._update(fn, y, args, count, state, self.curvature)
        y, state, record, aux, *_ = new
        return y, state, record, aux

    def _update(
        self,
        fn: Callable[[PyTree, Any], tuple[Scalar, Any]],
        y: PyTree[Array],
        args: Any,
        count: Int[Array, ""],
        state: StrategyState,
        curvature: AbstractCurvatureMethod,
        known: _Known | None = None,
    ) -> tuple[PyTree[Array], StrategyState, StepRecord, Any, Line, _Known | None]:
        """`update` with a given curvature method, and with loss and gradient at `y` where
        these are known; it also returns the line, and what is known where it ended."""
        dtype = scalar_dtype(y)
        curvature = cast_hyperparameters(curvature, dtype)
        model = quadratic_model(fn, y, args, curvature, has_aux=True)
        if known is not None:
            model = model.knowing(*known)
        descent, direction = self.direction.checked_step(model, y, state.direction)
        line = Line(y, descent.u, descent.fresh, model)
        search, known = self.line_search, None
        if isinstance(search, AbstractGradientSearch):
            trial, info, line_search = search.checked_search(line, count, state.line_search)
            step_size, known = trial.step_size, (trial.value, trial.grad)
        else:
            step_size, info, line_search = search.checked_step(
                line, count, state.line_search
            )
        read = self.direction.reads_gradient
        gradient_norm = tree_norm(model.grad) if read else jnp.array(not_measured())
        record = StepRecord(
            loss=at_least_float32(model.value).astype(dtype),
            step_size=step_size,
            gradient_norm=gradient_norm.astype(dtype),
            info=info,
        )
        y, average = line.point(step_size), None
        if self.average is not None:
            if state.average is None:
                raise ValueError(
                    "state must have an average, as that of this solver's `init_strategy` "
                    "has, but it was made by a solver without one."
                )
            average = self.average.checked_step(y, direction, state.average)
        state = StrategyState(direction, line_search, average)
        return y, state, record, model.aux, line, known

    def init(
        self,
        fn: Callable,
        y: PyTree[Array],
        args: Any,
        options: dict[str, Any],
        f_struct: PyTree[jax.ShapeDtypeStruct],
        aux_struct: PyTree[jax.ShapeDtypeStruct],
        tags: frozenset[object],
    ) -> _SolverState:
        del f_struct, aux_struct, tags
        curvature = self._curvature_method(options)
        key = options.get("key", None)
        if key is not None:
            check_key("options['key']", key)
        dtype = scalar_dtype(y)
        known = self._evaluated(fn, y, args, curvature)
        return _SolverState(
            count=jnp.array(0, jnp.int32),
            strategy=pack_keys(self.init_strategy(y, jr.key(0) if key is None else key)),
            record=StepRecord(
                # An infinite change of the loss: the first step never converges.
                loss=jnp.array(jnp.inf, dtype),
                step_size=jnp.array(0, dtype),
                gradient_norm=jnp.array(not_measured(), dtype),
                info=StepInfo().astype(dtype),
            ),
            known=known,
            # A copy: where `y` and the state are donated, they must not share a buffer.
            previous=tree_copy(y) if known is None else None,
            y_converged=jnp.array(False),
            terminate=jnp.array(False),
            finite=jnp.array(True),
        )

    def step(
        self,
        fn: Callable,
        y: PyTree[Array],
        args: Any,
        options: dict[str, Any],
        state: _SolverState,
        tags: frozenset[object],
    ) -> tuple[PyTree[Array], _SolverState, Any]:
        del tags
        curvature = self._curvature_method(options)
        with promotion() as keeps_setting:
            return self._step(keeps_setting(fn), y, args, state, curvature)

    def _evaluated(
        self, fn: Callable, y: PyTree[Array], args: Any, curvature: AbstractCurvatureMethod
    ) -> _Known | None:
        """Loss and gradient at `y`, for a line search that hands on those of each step."""
        if not isinstance(self.line_search, AbstractGradientSearch):
            return None
        model = quadratic_model(fn, y, args, curvature, has_aux=True)
        return at_least_float32(model.value).astype(scalar_dtype(y)), model.grad

    def _curvature_method(self, options: dict[str, Any]) -> AbstractCurvatureMethod:
        """The curvature method for the requested mode of differentiation."""
        mode = options.get("autodiff_mode", "bwd")
        check_choice("autodiff_mode", mode, ("fwd", "bwd"))
        if mode == "bwd":
            return self.curvature
        if not isinstance(self.curvature, _EXACT):
            raise ValueError(
                "autodiff_mode='fwd' computes the exact curvature by forward mode, but "
                f"curvature is {self.curvature!r}. Leave one of them out."
            )
        return JvpCurvature()

    def _step(
        self,
        fn: Callable,
        y: PyTree[Array],
        args: Any,
        state: _SolverState,
        curvature: AbstractCurvatureMethod,
    ) -> tuple[PyTree[Array], _SolverState, Any]:
        strategy = unpack_keys(state.strategy)
        new_y, strategy, record, aux, line, known = self._update(
            fn, y, args, state.count, strategy, curvature, state.known
        )
        self.verbose(
            num_steps=("Step", state.count),
            loss=("Loss", record.loss),
            step_size=("Step size", record.step_size),
            slope=("Slope", record.info.slope),
            curvature=("Curvature", record.info.curvature),
        )
        # Both tests concern one step: the last update of y, and the change in the loss
        # that it caused, which is known only now.
        f_diff = jnp.abs(record.loss - state.record.loss)
        f_converged = f_diff < self.atol + self.rtol * jnp.abs(record.loss)
        scaled = jtu.tree_map(
            # Not the difference of the points, which may round to zero.
            lambda u, y: (
                jnp.abs(record.step_size * u) / (self.atol + self.rtol * jnp.abs(y))
            ),
            line.u,
            y,
        )
        info = record.info
        zero_step = record.step_size == 0
        # A zero step is not convergence, except at a stationary point. A zero `u` (while a
        # transformation accumulates gradients, say) is a zero step too.
        u_is_zero = optx.max_norm(line.u) == 0
        reads = self.direction.reads_gradient
        at_rest = record.gradient_norm == 0 if reads else u_is_zero
        moved = ~(info.ascent | info.exhausted) & (~zero_step & ~u_is_zero | at_rest)
        loss_is_finite = jnp.isfinite(record.loss)
        refused = zero_step & info.nonfinite
        finite = loss_is_finite & ~refused & tree_allfinite(new_y)
        # After a failure, the last point whose loss was finite.
        if known is None:
            last, previous = _select(loss_is_finite, y, state.previous), y
        else:
            finite &= jnp.isfinite(known[0])
            last, previous = y, None
        new_state = _SolverState(
            count=state.count + 1,
            strategy=pack_keys(strategy),
            record=record,
            known=known,
            previous=previous,
            # Multiplied out: the alignment to divide by may be zero.
            y_converged=moved & (self.norm(scaled) < _alignment(line)),
            terminate=state.y_converged & f_converged,
            finite=finite,
        )
        return _select(finite, new_y, last), new_state, aux

    def terminate(
        self,
        fn: Callable,
        y: PyTree[Array],
        args: Any,
        options: dict[str, Any],
        state: _SolverState,
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        del fn, y, args, options, tags
        result = optx.RESULTS.where(
            state.finite, optx.RESULTS.successful, optx.RESULTS.nonfinite
        )
        return state.terminate, result

    def postprocess(
        self,
        fn: Callable,
        y: PyTree[Array],
        aux: Any,
        args: Any,
        options: dict[str, Any],
        state: _SolverState,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[PyTree[Array], Any, dict[str, Any]]:
        del aux, options, tags, result
        if self.average is not None:
            # After a failure the average has taken in a point that is not finite.
            y = _select(state.finite, state.strategy.answer(y), y)
        # Every step ends in an update, so `y` itself has not been evaluated yet.
        loss, aux = fn(y, args)
        return y, aux, {"loss": loss}

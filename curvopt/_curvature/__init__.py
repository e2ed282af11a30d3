r"""The quadratic model of a loss: its curvature along a vector.

**The interface.** `quadratic_model(fn, y, args, curvature=...)` checks the loss and passes
it to a *curvature method*, which returns a `QuadraticModel`: value and gradient, and for
any vector $u$ the slope $\langle g, u \rangle$ and the curvature $\langle u, H u \rangle$.
Each method has its own file: `_adjoint.py`, `_forward.py`, `_gauss_newton.py`,
`_subsampled.py`, and `_whole_loss.py` for the rivals that differentiate the loss as a
whole. The rest of this text explains the first of them; the others share its parts.

**From a loss to a program.** Take $f(w) = \sum \sin(w x)$ of a vector $w$, as

```python
loss = lambda w: jnp.sum(jnp.sin(w * x))
```

`jax.make_jaxpr` turns it into equations, `flatten` (`_program.py`) into a flat list of
*operations*, with every `jit` inlined, and `prepare` (`_rewrites.py`) fuses some of them:
`mul` and `sin` form a chain, one operation on arrays of one shape.

**From a program to a tape.** `record` (`_tape.py`) evaluates the operations in order. An
operation that depends on the parameters and reaches the loss is recorded as an *equation*
$z = F(x)$ (`_primitive.py`), with its operands, its `jax.vjp` (made from the operands later
if it is elementwise) and a *rule* (`_rules.py`).
A `scan` and a `jax.checkpoint` have tapes of their own (`_scan.py`, `_remat.py`). Values
that depend on the parameters are numbered, like registers:

| equation | inputs | outputs | rule |
| --- | --- | --- | --- |
| `mul, sin` | 0 (this is `w`) | 1 | elementwise: `jvp` of `jvp` |
| `reduce_sum` | 1 | 2 (this is the loss) | linear: nothing to add |

**Sweeps over the tape.** Each carries something along with every numbered value
(`_equation.py` has what they share):

1. forward, the values $z$: this is the recording;
2. backward, the adjoints $\hat z = \partial f / \partial z$: $\hat z_2 = 1$, then
   $\hat z_1 = (1, \dots, 1)$ by the sum's `vjp`, then $\hat z_0 = g = x \cos(w x)$.
   Each equation keeps the adjoint of its output;
3. forward again along $u$, the tangents $\dot z$: $\dot z_0 = u$, then
   $\dot z_1 = u x \cos(w x)$, then $\dot z_2 = \langle g, u \rangle$. On the way each
   equation adds $\langle \hat z, D^2 F[\dot x, \dot x] \rangle$: the chain
   $\langle (1, \dots, 1), -u^2 x^2 \sin(w x) \rangle$, the sum nothing. The total is
   $\langle u, H u \rangle$.

The third sweep needs no second tangent $\ddot z$, because the adjoints already account for
everything between an equation and the loss. This is what it saves over a `jvp` of a `jvp`.
The rule of an equation makes its term cheap: a linear one adds nothing, a bilinear one
costs one product (`_products.py`). `ForwardCurvature` walks the same tape with the pair
$(\dot z, \ddot z)$ instead, and needs no second sweep.

**Zeros.** A value that carries `None` does not move. `AbstractSweep.run` skips an equation
whose inputs do not move, and an equation of which some do is handled as one of these
alone, with the rule for these: a product with one factor that moves is linear. For the
curvature matrix of several vectors each value carries a `Stack` (`_stack.py`): the tangents
along those of the vectors that reach it.

Source: de Gournay & Gossard (arXiv 2210.14520) for the three sweeps; their form on jaxprs
is this project's own.
"""

from ._adjoint import AdjointCurvature as AdjointCurvature
from ._equation import EquationReport as EquationReport
from ._forward import ForwardCurvature as ForwardCurvature
from ._gauss_newton import (
    CompositeLoss as CompositeLoss,
    GaussNewtonCurvature as GaussNewtonCurvature,
    tag_output as tag_output,
)
from ._model import (
    AbstractCurvatureMethod as AbstractCurvatureMethod,
    CurvatureReport as CurvatureReport,
    QuadraticModel as QuadraticModel,
)
from ._quadratic_model import (
    check_loss as check_loss,
    close_loss as close_loss,
    quadratic_model as quadratic_model,
)
from ._rules import register_rule as register_rule
from ._subsampled import SubsampledCurvature as SubsampledCurvature
from ._whole_loss import (
    FiniteDifferenceCurvature as FiniteDifferenceCurvature,
    HvpCurvature as HvpCurvature,
    JvpCurvature as JvpCurvature,
)

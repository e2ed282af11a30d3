r"""The quadratic model of a loss: how the curvature along a direction is had.

**What is asked.** `quadratic_model(fn, y, args, curvature=...)` checks the loss and hands
it to a *curvature method*, which answers with a `QuadraticModel`: value and gradient, and
for any direction $u$ the slope $\langle g, u \rangle$ and the curvature
$\langle u, H u \rangle$. The methods are one a file: `_adjoint.py`, `_forward.py`,
`_gauss_newton.py`, `_subsampled.py`, and the rivals that take the loss as a whole,
`_whole_loss.py`. What follows is how the first of them works; the others share its parts.

**From a loss to a program.** Take $f(w) = \sum \sin(w x)$ of a vector $w$, as

```python
loss = lambda w: jnp.sum(jnp.sin(w * x))
```

`jax.make_jaxpr` writes it as equations, `flatten` (`_program.py`) as a flat list of
*operations*, with every `jit` written out, and `prepare` (`_rewrites.py`) makes fewer of
them: `mul` and `sin` are a chain, one operation on arrays of one shape.

**From a program to a tape.** `record` (`_tape.py`) evaluates the operations in order. One
that depends on the parameters and matters to the loss is recorded as an *equation*
$z = F(x)$ (`_primitive.py`), with its operands, `jax.vjp` of it and a *rule*
(`_rules.py`). A `scan` and a `jax.checkpoint` hold a tape of their own (`_scan.py`,
`_remat.py`). Values that depend on the parameters have numbers, as registers have:

| equation | inputs | outputs | rule |
| --- | --- | --- | --- |
| `mul, sin` | 0 (this is `w`) | 1 | elementwise: `jvp` of `jvp` |
| `reduce_sum` | 1 | 2 (this is the loss) | linear: nothing to add |

**Sweeps over the tape** (`_equation.py` has what all have in common), in each of which
something travels with every number:

1. forward, the values $z$: this was the recording;
2. backward, the adjoints $\hat z = \partial f / \partial z$: $\hat z_2 = 1$, then
   $\hat z_1 = (1, \dots, 1)$ by the sum's `vjp`, then $\hat z_0 = g = x \cos(w x)$.
   Each equation keeps the adjoint of its output;
3. forward again along $u$, the tangents $\dot z$: $\dot z_0 = u$, then
   $\dot z_1 = u x \cos(w x)$, then $\dot z_2 = \langle g, u \rangle$. On the way each
   equation adds $\langle \hat z, D^2 F[\dot x, \dot x] \rangle$: the chain
   $\langle (1, \dots, 1), -u^2 x^2 \sin(w x) \rangle$, the sum nothing. The total is
   $\langle u, H u \rangle$.

The third sweep needs no second tangent $\ddot z$, because the adjoints have carried all
that follows an equation to the loss already: this is what it saves over a `jvp` of a
`jvp`. The rule of an equation is what makes its term cheap: nothing for a linear one, one
product (`_products.py`) for a bilinear one. `ForwardCurvature` walks the same tape with the
pair $(\dot z, \ddot z)$ instead, and needs no second sweep.

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

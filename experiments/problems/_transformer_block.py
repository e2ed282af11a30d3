import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray


class TransformerBlock(eqx.Module):
    """Attention and a perceptron, each normalised before and added to what came in
    (Vaswani et al. 2017).

    **Arguments:**

    - `width`: numbers that each position has.
    - `heads`: of the attention.
    """

    attention_norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width: int, heads: int, key: PRNGKeyArray):
        k = jr.split(key, 3)
        self.attention_norm = eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=k[0])
        self.norm = eqx.nn.LayerNorm(width)
        self.up = eqx.nn.Linear(width, 4 * width, key=k[1])
        self.down = eqx.nn.Linear(4 * width, width, key=k[2])

    def __call__(
        self,
        x: Float[Array, "length width"],
        mask: Bool[Array, "length length"] | None = None,
    ) -> Float[Array, "length width"]:
        h = jax.vmap(self.attention_norm)(x)
        x = x + self.attention(h, h, h, mask)
        h = jax.vmap(self.norm)(x)
        return x + jax.vmap(self.down)(jax.nn.gelu(jax.vmap(self.up)(h)))


def check_heads(width: int, heads: int) -> None:
    """Refuse heads that cannot share the width."""
    if width % heads:
        raise ValueError(
            f"width must be a multiple of heads, but it is {width} and heads is {heads}."
        )

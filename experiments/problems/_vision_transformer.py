from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

import curvopt

from ..data import Images
from ._images import classifier
from ._on_data import AbstractOnData
from ._transformer_block import check_heads, TransformerBlock


class VisionTransformer(eqx.Module):
    """Transformer blocks that read an image as a sequence of square patches (Dosovitskiy et
    al. 2021), and a full layer on the mean over the patches.

    **Arguments:**

    - `shape`: channels, height and width of an image.
    - `patch`: height and width of a patch, in pixels.
    - `width`: numbers that a patch and its position are embedded in.
    - `layers`: how many blocks there are.
    - `heads`: of each attention.
    - `classes`: how many numbers it puts out.
    """

    embedding: eqx.nn.Linear
    positions: Float[Array, "patches width"]
    blocks: tuple[TransformerBlock, ...]
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear
    patch: int = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int, int],
        patch: int,
        width: int,
        layers: int,
        heads: int,
        classes: int,
        *,
        key: PRNGKeyArray,
    ):
        channels, height, across = shape
        patches = (height // patch) * (across // patch)
        k = jr.split(key, 4)
        self.embedding = eqx.nn.Linear(channels * patch**2, width, key=k[0])
        self.positions = 0.02 * jr.normal(k[1], (patches, width))
        self.blocks = tuple(
            TransformerBlock(width, heads, key) for key in jr.split(k[2], layers)
        )
        self.norm = eqx.nn.LayerNorm(width)
        self.readout = eqx.nn.Linear(width, classes, key=k[3])
        self.patch = patch

    def __call__(
        self, image: Float[Array, "channel height width"]
    ) -> Float[Array, " class"]:
        x = jax.vmap(self.embedding)(self._patches(image)) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.readout(jnp.mean(jax.vmap(self.norm)(x), axis=0))

    def _patches(
        self, image: Float[Array, "channel height width"]
    ) -> Float[Array, "patches pixels"]:
        channels, height, width = image.shape
        p = self.patch
        x = image.reshape(channels, height // p, p, width // p, p)
        return x.transpose(1, 3, 0, 2, 4).reshape(-1, channels * p**2)


class VisionTransformerClassifier(AbstractOnData):
    """Images classified by a small vision transformer (Dosovitskiy et al. 2021), with the
    cross-entropy loss. A batch is standardised by the mean and deviation of all training
    pixels in each channel.

    **Arguments:**

    - `images`: the data, grey or in colour.
    - `patch`: height and width of a patch, in pixels.
    - `width`: numbers that a patch and its position are embedded in.
    - `layers`: how many blocks of attention and perceptron there are.
    - `heads`: of each attention; they share the width.
    - `batch_size`: images in a mini-batch.
    - `evaluated`, `tested`: on how many training and on how many test images, the same
        ones always, metrics are evaluated; `None` for all.

    **Raises:**

    `ValueError` if a count is not one, the images do not divide into patches, the width is
    not a multiple of the heads, or the batch is larger than the data.
    """

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        images: Images,
        patch: int = 4,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        batch_size: int = 64,
        evaluated: int | None = 2_000,
        tested: int | None = 4_000,
    ):
        counts = {"patch": patch, "width": width, "layers": layers, "heads": heads}
        for name, n in counts.items():
            curvopt.check_count(name, n)
        check_heads(width, heads)
        height, across = images.shape[-2:]
        if height % patch or across % patch:
            raise ValueError(
                f"patch must divide the height and width of the images, but it is {patch} "
                f"and those of {images.name} have {height} x {across} pixels."
            )
        shape = images.channels, height, across
        make = partial(
            VisionTransformer, shape, patch, width, layers, heads, images.classes
        )
        self.name = images.name
        self.problem = classifier(
            images, make, shape, batch_size=batch_size, evaluated=evaluated, tested=tested
        )

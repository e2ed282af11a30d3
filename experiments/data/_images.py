import dataclasses
import math

import numpy as np
from jaxtyping import UInt8


@dataclasses.dataclass(frozen=True)
class Images:
    """Images with their classes, split for training and testing: grey ones, of shape
    `(height, width)`, or ones in colour, of shape `(channel, height, width)`.

    **Attributes:**

    - `name`: what the data set is called in results.
    - `train_images`, `test_images`: values from 0 to 255, `(number, *shape)`.
    - `train_labels`, `test_labels`: classes from 0, `(number,)`.
    """

    name: str
    train_images: UInt8[np.ndarray, " train *shape"]
    train_labels: UInt8[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, " test *shape"]
    test_labels: UInt8[np.ndarray, " test"]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(height, width)` of grey images, `(channel, height, width)` of colour ones."""
        return self.train_images.shape[1:]

    @property
    def channels(self) -> int:
        """How many values a pixel has: 1 in grey images."""
        return math.prod(self.shape[:-2])

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.train_labels.max()) + 1

import dataclasses

import numpy as np
from jaxtyping import UInt8


@dataclasses.dataclass(frozen=True)
class Images:
    """Grey images with their classes, split for training and testing.

    **Attributes:**

    - `name`: what the data set is called in results.
    - `train_images`, `test_images`: pixels from 0 to 255, `(number, height, width)`.
    - `train_labels`, `test_labels`: classes from 0, `(number,)`.
    """

    name: str
    train_images: UInt8[np.ndarray, "train height width"]
    train_labels: UInt8[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test height width"]
    test_labels: UInt8[np.ndarray, " test"]

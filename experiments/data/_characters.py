import dataclasses

import numpy as np
from jaxtyping import UInt8


@dataclasses.dataclass(frozen=True)
class Text:
    """A text as a row of symbols, split for training and testing.

    **Attributes:**

    - `name`: what the data set is called in results.
    - `train`, `test`: the text, each character as its index in the alphabet.
    - `alphabet`: all symbols of both parts, in the order of their code points.
    """

    name: str
    train: UInt8[np.ndarray, " train"]
    test: UInt8[np.ndarray, " test"]
    alphabet: str

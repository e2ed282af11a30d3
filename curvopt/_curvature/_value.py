from typing import Any, NamedTuple


class Value(NamedTuple):
    """An array of the tape.

    **Attributes:**

    - `array`: the array; `None` where it is not known yet.
    - `number`: its number if it depends on the parameters.
    - `known`: in a loop's body, whether it is the same in all iterations.
    """

    array: Any
    number: int | None
    known: bool = True

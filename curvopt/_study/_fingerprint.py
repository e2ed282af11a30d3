"""A digest of programs, which tells whether code has changed."""

import functools
import hashlib
import re
from typing import Any


# The name of a function, in quotes where it has other characters.
_NAME = r'@("[^"]*"|[\w.$-]+)'
_FUNCTION = re.compile(rf"^  func\.func \w+ {_NAME}(.*?\n  )\}}", re.DOTALL | re.M)


def fingerprint(*programs: Any) -> str:
    """A digest of lowered programs: of their operations, types and constants, in order.

    It depends on no name, and on no number of copies: whether two calls share a function is
    a matter of jax's caches, and so of what the process did before.
    """
    return _digest(*(_of(program.as_text()) for program in programs))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _of(text: str) -> str:
    # Locations in source files change no result.
    text = re.sub(r"#loc.*|loc\(.*?\)", "", text)
    bodies = dict(_FUNCTION.findall(text))

    @functools.cache
    def of_function(name: str) -> str:
        seen: dict[str, str] = {}

        def replaced(match: re.Match[str]) -> str:
            if match[0].startswith("%"):
                return seen.setdefault(match[0], f"%{len(seen)}")
            # What is not a function here, such as the target of a call, keeps its name.
            return f"@{of_function(match[1])}" if match[1] in bodies else match[0]

        return _digest(re.sub(rf"%[\w.]+|{_NAME}", replaced, bodies[name]))

    return of_function("main")

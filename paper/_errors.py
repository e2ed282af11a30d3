class BuildError(Exception):
    """The paper cannot be built; the message says why."""


class MissingTeX(BuildError):
    """LaTeX, or a part of it, is missing; the message says what to install."""

class BuildError(Exception):
    """The paper cannot be built as it is; the message says why."""


class MissingTeX(BuildError):
    """The paper cannot be built here; the message says what to install."""

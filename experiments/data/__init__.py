"""Real data: what comes with the project, and what a user brings or downloads."""

from ._full import load_full as load_full
from ._idx import DataError as DataError, parse_idx as parse_idx
from ._images import Images as Images
from ._subset import load_subset as load_subset

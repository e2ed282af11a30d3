"""Real data: what comes with the project, and what a user brings or downloads."""

from ._characters import Text as Text
from ._cifar import load_cifar10 as load_cifar10
from ._folder import data_folder as data_folder
from ._full import load_full as load_full
from ._idx import DataError as DataError, parse_idx as parse_idx
from ._images import Images as Images
from ._subset import load_subset as load_subset
from ._text import load_shakespeare as load_shakespeare

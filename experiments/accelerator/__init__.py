"""What an accelerator makes of it: `python -m experiments accelerator`."""

from ._command import Accelerator as Accelerator, accelerator as accelerator

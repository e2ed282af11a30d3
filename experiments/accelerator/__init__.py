"""Measurements on an accelerator: `python -m experiments accelerator`."""

from ._command import Accelerator as Accelerator, accelerator as accelerator

"""Runs, one or thousands: lanes, how they are run, saved and labelled."""

from ._dataset import ended_well as ended_well, final_metric as final_metric
from ._execution import Execution as Execution
from ._store import StudyError as StudyError
from ._study import run_study as run_study
from ._train import train as train, TrainResult as TrainResult
from ._tune import tune as tune, Tuning as Tuning
from ._versions import versions as versions

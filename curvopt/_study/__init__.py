"""Studies: many runs of many strategies, made, saved and read back.

A *run* is one strategy at one point of its grid from one seed. A *lane* is the state that a
run carries from step to step. A *group* is the lanes that run at once. A *cohort* is the
runs of a strategy that were begun together and run in the same way.

    Study → Session (what is missing, and how to run it) → engine → records → dataset
                 ↕ store                                              ↑ load_study
"""

from ._dataset import ended_well as ended_well, final_metric as final_metric
from ._evaluation import Evaluation as Evaluation
from ._execution import Execution as Execution
from ._load import (
    load_run as load_run,
    load_study as load_study,
    LoadedRun as LoadedRun,
)
from ._sharding import FullySharded as FullySharded, Sharding as Sharding
from ._store import delete_study as delete_study, StudyError as StudyError
from ._study import (
    Family as Family,
    run_study as run_study,
    seed_numbers as seed_numbers,
    Study as Study,
)

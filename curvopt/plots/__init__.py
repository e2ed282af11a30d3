"""Figures of studies, in one style that is safe for colour-blind readers.

Figures of runs take a dataset of [`curvopt.run_study`][], the others plain arrays. All
return a `matplotlib` figure without `pyplot` state, at its size on paper:
`figure.savefig(...)`. If the dataset's `strategy` has the coordinates `direction` and
`line_search`, each direction has its own panel, and each line search has a colour, a marker
and a line style.
"""

from ._curves import learning_curves as learning_curves, metric_curves as metric_curves
from ._performance import performance_profile as performance_profile
from ._ranks import critical_differences as critical_differences
from ._sensitivity import sensitivity as sensitivity
from ._style import COLOURS as COLOURS, STYLE as STYLE, Width as Width
from ._traces import line_traces as line_traces

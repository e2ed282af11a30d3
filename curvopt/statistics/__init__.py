"""Statistics of runs: paired comparisons (the same seed, two strategies), aggregates over
problems, profiles, ranks and times to a target.

All functions take NumPy arrays, or anything that converts to one. An `xarray.DataArray` is
read by the names of its dimensions, not by their order. Values are paired by the labels of
seeds and problems, and repeated labels raise an error.
"""

from ._aggregate import (
    interquartile_mean as interquartile_mean,
    stratified_interquartile_mean as stratified_interquartile_mean,
)
from ._bootstrap import Estimate as Estimate, stratified_interval as stratified_interval
from ._improvement import probability_of_improvement as probability_of_improvement
from ._paired import (
    bca_interval as bca_interval,
    compare_paired as compare_paired,
    holm as holm,
    PairedComparison as PairedComparison,
    seeds_needed as seeds_needed,
    sign_flip_test as sign_flip_test,
)
from ._profiles import (
    cost_ratios as cost_ratios,
    performance_profile as performance_profile,
    score_profile as score_profile,
    ScoreProfile as ScoreProfile,
    solved_at_no_more_cost as solved_at_no_more_cost,
)
from ._ranks import (
    critical_difference as critical_difference,
    CriticalDifference as CriticalDifference,
)
from ._times import (
    summarise_times as summarise_times,
    time_to_target as time_to_target,
    TimeSummary as TimeSummary,
)

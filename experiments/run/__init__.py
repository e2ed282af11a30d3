"""A study as a file: `python -m experiments run study.toml`.

The file has the problem, the strategies and how many seeds and steps; `example.toml`, next
to this module, shows most of what it can say and runs in half a minute:

    python -m experiments run experiments/run/example.toml

Everything in it is checked before anything is compiled, and an error names the field.
Interrupted, the same command resumes; with more seeds, values or strategies in the file,
only the missing runs are made.

**The folder.** `tuning/` and `study/` are folders of [`curvopt.run_study`][], which
[`curvopt.load_study`][] and [`curvopt.load_run`][] read; `experiment.json` says how they
are to be read, and has the file in it. From these alone everything else is written, and can
be written again at any time: `results.nc`, `tuning.nc`, figures, `report.md` and
`report.html` by `python -m experiments report FOLDER`, and the table as Markdown, LaTeX or
CSV by `python -m experiments table FOLDER --format latex`.

**The file.** At the top:

- `problem`: a name of `experiments.problems`, `"module:name"` of your own, or a table of a
    `name` and the arguments to make it with.
- `steps`, `metric`: how many steps, and which of the problem's metrics is judged.
- `seeds` (8), `evaluations` (6): as in [`curvopt.run_study`][].
- `lower_is_better` (true): whether the metric is a loss.
- `baseline`: the strategy that all others are compared with, or, as a table, that of each;
    of strategies without hyper-parameters.

Then tables:

- `[strategies."a name"]`: `direction`, one of `line_search` and `recipe`, and perhaps
    `curvature`, and `hyperparameters` of its own.
- `[tuning."a name"]`: a strategy found by [`curvopt.tune`][]: `direction`,
    `learning_rates`, `schedules` (constant and cosine), `seeds` (2), and perhaps a
    `line_search` that has `"$learning_rate"` and `"$schedule"` in it, and `curvature`.
- `[hyperparameters]`: values by name; `"$name"` in a strategy is one of them. Each strategy
    is run with all combinations of those that it refers to.
- `[execution]`: `loop`, `lanes_at_once`, `workers`, `measure`, `chunk`, `memory` of
    [`curvopt.Execution`][].

An object is its class (`"SGD"`), an entry of the command line's catalogue (`"sls"`), your
own (`"module:name"`), or a table of a `name` and arguments, which may be objects again:
`{ name = "GrowthLimited", inner = { name = "CurvatureRescaling", average = 0.9 } }`. A
`schedule` is `"constant"`, `"cosine"`, `"linear"` or your own; `"$steps"` and
`"$steps_per_epoch"` are what they say. Values are a list, or a logarithmic grid:
`{ from = 0.01, to = 10, number = 7 }`.
"""

from ._command import Run as Run, run as run

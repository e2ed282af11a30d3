"""A study as a file: `python -m experiments run study.toml`.

The file names the problem, the strategies, and the numbers of seeds and steps.
`example.toml`, next to this module, shows most of the format and runs in half a minute:

    python -m experiments run experiments/run/example.toml

The whole file is checked before anything is compiled, and errors name the field.
Interrupted or killed, the same command resumes. With more seeds, values or strategies in
the file it makes only the missing runs.

**The folder.** `tuning/` and `study/` are folders of [`curvopt.run_study`][], which
[`curvopt.load_study`][] and [`curvopt.load_run`][] read. `experiment.json` holds the file,
and says which runs to report and what to compare. Everything else is made from these and
can be written again at any time: `results.nc`, `tuning.nc`, figures, `report.md` and
`report.html` by `python -m experiments report FOLDER`, and the table as Markdown, LaTeX or
CSV by `python -m experiments table FOLDER --format latex`.

**The file.** At the top:

- `problem`: a name in `experiments.problems`, `"module:name"` for your own, or a table with
    a `name` and the constructor's arguments.
- `steps`, `metric`: the number of steps, and the metric of the problem by which strategies
    are compared.
- `seeds` (8), `evaluations` (6): as in [`curvopt.run_study`][].
- `lower_is_better` (true): whether lower values of the metric are better.
- `baseline`: the strategy that all others are compared with, or a table of one baseline for
    each strategy. None of them may have hyper-parameters.

Then tables:

- `[strategies."a name"]`: `direction`, either `line_search` or `recipe`, and optionally
    `curvature`, `average` and the strategy's own `hyperparameters`.
- `[tuning."a name"]`: a strategy to be tuned as by [`curvopt.tune`][]: `direction`,
    `learning_rates`, `schedules` (constant and cosine), `seeds` (2), and optionally
    `curvature`, `average` and a `line_search` that contains `"$learning_rate"` and
    `"$schedule"`.
- `[hyperparameters]`: values by name; a strategy refers to them as `"$name"`. Each strategy
    runs with all combinations of the hyper-parameters that it refers to.
- `[execution]`: `loop`, `lanes_at_once`, `workers`, `measure`, `chunk`, `memory` of
    [`curvopt.Execution`][].

An object is a class (`"SGD"`), a name of the command line (`"sls"`), your own
(`"module:name"`), or a table with a `name` and arguments, which may be objects themselves:
`{ name = "GrowthLimited", inner = { name = "CurvatureRescaling", average = 0.9 } }`. A
`schedule` is `"constant"`, `"cosine"`, `"linear"` or your own. `"$steps"` and
`"$steps_per_epoch"` stand for these numbers. Values are a list, or a logarithmic grid:
`{ from = 0.01, to = 10, number = 7 }`.
"""

from ._command import Run as Run, run as run

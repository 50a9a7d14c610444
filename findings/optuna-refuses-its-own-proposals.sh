#!/bin/sh
# Optuna's suggest_float proposes values, stores their trials, and refuses the same values when a trial is copied.
# Versions: optuna==5.0.0.
# A good guess: a trial that Optuna made can be added to another study with add_trial, and built with create_trial.
# Behaviour: of a range with a small step beside large bounds, most proposals are "not contained" in the distribution that they
#   are drawn from.
# Our guard: tests/searches/spec/test_space.py::test_bad_searches_state_rule_and_values
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0
cat > "$folder/program.py" <<'PROGRAM'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
study, copy, refused = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), optuna.create_study(), []
for _ in range(20):
    trial = study.ask()
    trial.suggest_float("x", 100_000, 100_001, step=0.0001)
    study.tell(trial, 0.0)
for trial in study.trials:
    try:
        copy.add_trial(trial)
    except ValueError as error:
        refused.append(str(error))
print(len(refused) > 10, refused[0])
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
True The value 100000.5488 of parameter 'x' isn't contained in the distribution FloatDistribution(high=100001.0, log=False, low=100000.0, step=0.0001).
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

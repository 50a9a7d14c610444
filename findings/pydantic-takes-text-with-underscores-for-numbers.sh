#!/bin/sh
# pydantic takes the text 1_0 for the number 10, in JSON too.
# Versions: pydantic==2.14.3.
# A good guess: text becomes a number if JSON or YAML 1.2 would take it for one; 1_0 is an error, as a slip of the keyboard should
#   be.
# Behaviour: Python's own rule for source code holds: underscores between digits are passed over.
# Our guard: tests/config/test_yaml12.py::test_text_is_no_number
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pydantic==2.14.3
cat > "$folder/program.py" <<'PROGRAM'
from pydantic import BaseModel

class Run(BaseModel):
    epochs: int
    lr: float

print(Run(epochs="1_0", lr="1_0"), "|", Run.model_validate_json('{"epochs": "3_00", "lr": "0.0_1"}'))
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
epochs=10 lr=10.0 | epochs=300 lr=0.01
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

#!/bin/sh
# PyYAML writes text such as 1e3 and 08 without quotes, which readers of YAML 1.2 take for numbers.
# Versions: pyyaml==6.0.3 ruamel.yaml==0.19.1.
# A good guess: text that safe_dump writes is text for every reader of YAML; PyYAML quotes what looks like a number.
# Behaviour: PyYAML quotes what YAML 1.1 takes for a number: ruamel.yaml, which reads YAML 1.2, returns 1000.0 and 8.
# Our guard: tests/config/test_yaml12.py::test_what_is_written_is_read_back
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyyaml==6.0.3 ruamel.yaml==0.19.1
cat > "$folder/program.py" <<'PROGRAM'
import ruamel.yaml
import yaml

written = yaml.safe_dump(["1e3", "08", "0o17", "010"])
print(written.split())
print([(type(value).__name__, str(value)) for value in ruamel.yaml.YAML(typ="safe").load(written)])
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
['-', '1e3', '-', '08', '-', '0o17', '-', "'010'"]
[('float', '1000.0'), ('int', '8'), ('int', '15'), ('str', '010')]
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

#!/bin/sh
# pyarrow's is_in has no kernel for string_view, though unique, filter and cast have.
# Versions: pyarrow==25.0.1.
# A good guess: functions of strings take string_view, which Parquet files may hold and other libraries write.
# Behaviour: is_in raises ArrowNotImplementedError; the column has to be cast to string before.
# Our guard: tests/data/test_parquet.py::test_names_of_every_kind_of_text
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1
cat > "$folder/program.py" <<'PROGRAM'
import pyarrow as pa
import pyarrow.compute as pc

views = pa.array(["train", "val", "train"], pa.string_view())
print(pc.unique(views).to_pylist(), pc.is_in(views.cast(pa.string()), pa.array(["train"])).to_pylist())
try:
    print(pc.is_in(views, pa.array(["train"], pa.string_view())).to_pylist())
except pa.ArrowNotImplementedError as error:
    print(error)
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
['train', 'val'] [True, False, True]
Function 'is_in' has no kernel matching input types (string_view)
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

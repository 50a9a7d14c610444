#!/bin/sh
# Pillow clips a grey image of 16 bits to white when it is converted to RGB.
# Versions: pillow==13.0.0 numpy==2.4.6.
# A good guess: convert("RGB") scales 0..65535 to 0..255, as it does for colour images of 16 bits, which are opened as RGB.
# Behaviour: values above 255 become 255: almost every pixel of a photograph is white, and nothing is said.
# Our guard: tests/data/test_decoding.py::test_grey_of_16_bits_is_its_8_bit_twin
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cat > "$folder/program.py" <<'PROGRAM'
import io
import numpy as np
from PIL import Image

content = io.BytesIO()
Image.fromarray(np.array([[0, 200, 257, 10_000, 32_768, 65_535]], np.uint16)).save(content, "PNG")
image = Image.open(io.BytesIO(content.getvalue()))
print(image.mode, np.asarray(image.convert("RGB"))[0, :, 0].tolist(), "rather than [0, 1, 1, 39, 128, 255]")
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
I;16 [0, 200, 255, 255, 255, 255] rather than [0, 1, 1, 39, 128, 255]
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

#!/bin/sh
# Pillow opens a grey TIFF of 12 bits in the mode of 16 bits, with values that end at 4095.
# Versions: pillow==13.0.0 numpy==2.4.6.
# A good guess: mode I;16 has white at 65535, as it has for PNG, TIFF of 16 bits, PGM and JPEG 2000.
# Behaviour: white is 4095, so that the picture is almost black by that rule; only the tag BitsPerSample tells.
# Our guard: tests/data/test_decoding.py::test_grey_of_12_bits_is_scaled
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cat > "$folder/program.py" <<'PROGRAM'
import io, struct
import numpy as np
from PIL import Image

def tiff(pixels, bits, photometric):
    """A grey TIFF of one row, by the specification: photometric 0 counts from white, 1 from black."""
    tags = ((256, WIDTH), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 110), (277, 1), (279, len(pixels)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return Image.open(io.BytesIO(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels))

WIDTH = 2
image = tiff(bytes([0xFF, 0xF8, 0x00]), 12, 1)
print(image.mode, np.asarray(image)[0].tolist(), image.tag_v2[258])
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
I;16 [4095, 2048] (12,)
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

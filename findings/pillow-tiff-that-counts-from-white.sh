#!/bin/sh
# Pillow inverts a grey TIFF that counts from white (photometric 0) if it has 8 bits, and not if it has 16.
# Versions: pillow==13.0.0 numpy==2.4.6.
# A good guess: the same picture with 8 and with 16 bits is the same picture.
# Behaviour: with 16 bits it is a negative: 0, which is white in the file, is returned as black.
# Our guard: tests/data/test_decoding.py::test_a_tiff_of_16_bits_may_count_from_white
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

WIDTH = 3
print("8 bits, white to black: ", np.asarray(tiff(bytes([0, 128, 255]), 8, 0))[0].tolist())
print("16 bits, white to black:", np.asarray(tiff(struct.pack("<3H", 0, 32_896, 65_535), 16, 0))[0].tolist())
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
8 bits, white to black:  [255, 127, 0]
16 bits, white to black: [0, 32896, 65535]
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

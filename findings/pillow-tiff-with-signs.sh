#!/bin/sh
# Pillow opens a grey TIFF of signed integers of 8 bits in mode L, so that −1 is 255, nearly white.
# Versions: pillow==13.0.0.
# A good guess: they keep their sign, as those of 16 bits do, which open in mode I.
# Behaviour: the sign is lost in silence; only the tag SampleFormat (2) tells.
# Our guard: tests/data/test_decoding.py::test_integers_of_32_bits_and_integers_with_a_sign_are_refused
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
cat > "$folder/program.py" <<'PROGRAM'
import io, struct
from PIL import Image

def tiff(bits, pixels):
    """A TIFF of one row of three grey pixels with a sign, by the specification."""
    tags = ((256, 3), (257, 1), (258, bits), (259, 1), (262, 1), (273, 122), (277, 1), (279, len(pixels)), (339, 2))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels

for bits, code in ((8, "<3b"), (16, "<3h")):
    image = Image.open(io.BytesIO(tiff(bits, struct.pack(code, -1, 0, 1))))
    print(bits, image.mode, [image.getpixel((x, 0)) for x in range(3)], image.tag_v2[339])
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
8 L [255, 0, 1] (2,)
16 I [-1, 0, 1] (2,)
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

#!/bin/sh
# Pillow compares the transparent colour of a PNG (chunk tRNS) with pixels of another number of bits.
# Versions: pillow==13.0.0.
# A good guess: convert("RGBA") makes those pixels transparent that the PNG says, at any bit depth.
# Behaviour: pixels of 2 and 4 bits are scaled to 8 bits, and their colour is not, so that nothing is transparent; of
# red, green and blue of 16 bits, the upper bytes of the pixels are compared with the lower bytes of the colour, so
# that other pixels are. Grey of 1, 8 and 16 bits is right.
# Our guard: tests/data/test_decoding.py::test_a_transparent_colour_is_compared_at_the_bits_of_the_pixels
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
cat > "$folder/program.py" <<'PROGRAM'
import io, struct, zlib
from PIL import Image

def png(width, bits, colour_type, row, transparent):
    """A PNG of one row of pixels, by the specification: colour type 0 is grey, 2 is red, green and blue."""
    header = struct.pack(">IIBBBBB", width, 1, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )

def show(title, content):
    alpha = Image.open(io.BytesIO(content)).convert("RGBA").getchannel("A")
    print(title, list(alpha.tobytes()))

show("grey of 2 bits, 0 1 2 3, 2 is transparent:", png(4, 2, 0, bytes([0b00011011]), struct.pack(">H", 2)))
show("grey of 8 bits, 0 1 2 3, 2 is transparent:", png(4, 8, 0, bytes([0, 1, 2, 3]), struct.pack(">H", 2)))
row = struct.pack(">6H", *[0x1234] * 3, *[0x3412] * 3)
show("colours of 16 bits, 1234 3412, 1234 is transparent:", png(2, 16, 2, row, struct.pack(">3H", *[0x1234] * 3)))
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
grey of 2 bits, 0 1 2 3, 2 is transparent: [255, 255, 255, 255]
grey of 8 bits, 0 1 2 3, 2 is transparent: [255, 255, 0, 255]
colours of 16 bits, 1234 3412, 1234 is transparent: [255, 0]
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }

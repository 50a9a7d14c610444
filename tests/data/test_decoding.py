"""Decoding by Pillow: pixels of every kind scaled or refused, alpha on white, EXIF, and every error of a decoder."""

import io
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from mcl_ray.data.decoding import DecodingError, decode_rgb, suffixes

GREY = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (12, 9, 3), dtype=np.uint8)


def encoded(image, kind, **options):
    content = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(content, kind, **options)
    return content.getvalue()


def pixels(content, **options):
    return np.asarray(decode_rgb(content, **options))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_grey_of_16_bits_is_its_8_bit_twin(kind):
    found = pixels(encoded(GREY.astype(np.uint16) * 257, kind))
    assert np.array_equal(found, np.repeat(GREY[..., None], 3, axis=2))


def tiff(data, bits, photometric, byte_order="<"):
    """A TIFF of one strip of grey pixels."""
    height, width = GREY.shape
    tags = ((256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 12 * 8 + 4))
    tags += ((277, 1), (279, len(data)))
    entries = b"".join(struct.pack(f"{byte_order}HHII", tag, 4, 1, value) for tag, value in tags)
    header = (b"II" if byte_order == "<" else b"MM") + struct.pack(f"{byte_order}HI", 42, 8)
    return header + struct.pack(f"{byte_order}H", len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize(("photometric", "byte_order"), [(0, "<"), (1, "<"), (1, ">")])
def test_a_tiff_of_16_bits_may_count_from_white(photometric, byte_order):
    stored = GREY if photometric else 255 - GREY
    content = tiff((stored.astype(np.uint16) * 257).astype(f"{byte_order}u2").tobytes(), 16, photometric, byte_order)
    assert np.array_equal(pixels(content)[..., 0], GREY)


def test_grey_of_12_bits_is_scaled():
    values = GREY.astype(int) * 16
    even, odd = values[:, 0::2], np.pad(values[:, 1::2], ((0, 0), (0, 1)))
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=-1).astype(np.uint8)
    found = pixels(tiff(packed.reshape(len(GREY), -1)[:, :14].tobytes(), 12, 1))[..., 0]
    assert np.abs(found.astype(int) - GREY).max() <= 1


def test_pgm_of_any_maximum_is_scaled():
    for maximum in (100, 1000, 4095, 65535):
        values = (GREY.astype(int) * maximum + 127) // 255
        data = values.astype(">u2" if maximum > 255 else np.uint8).tobytes()
        found = pixels(b"P5 9 12 %d\n" % maximum + data)[..., 0]
        assert np.abs(found.astype(int) - GREY).max() <= 255 // maximum + 1


def test_real_numbers_are_scaled_from_0_to_1_or_refused():
    assert np.array_equal(pixels(encoded((GREY / 255).astype(np.float32), "TIFF"))[..., 0], GREY)
    for values in (GREY.astype(np.float32), np.full((4, 4), np.nan, np.float32), np.full((4, 4), -0.1, np.float32)):
        with pytest.raises(DecodingError, match=r"real numbers must lie in 0\.\.1"):
            decode_rgb(encoded(values, "TIFF"))


def test_integers_of_32_bits_and_integers_with_a_sign_are_refused():
    for bits in (8, 16):
        signed = io.BytesIO()
        Image.fromarray(GREY if bits == 8 else GREY.astype(np.uint16)).save(signed, "TIFF", tiffinfo={339: 2})
        with pytest.raises(DecodingError, match="integers of 32 bits, or with a sign"):
            decode_rgb(signed.getvalue())
    with pytest.raises(DecodingError, match="integers of 32 bits"):
        decode_rgb(encoded(GREY.astype(np.int32) * 1000, "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TGA"])
def test_transparent_pixels_lie_on_white(kind):
    alpha = np.random.default_rng(2).integers(0, 256, GREY.shape, dtype=np.uint8)
    alpha[:2], alpha[2:4] = 0, 255
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = pixels(encoded(np.dstack([RGB, alpha]), kind, **options)).astype(int)
    on_white = (RGB.astype(int) * alpha[..., None] + 255 * (255 - alpha[..., None].astype(int))) / 255
    assert np.abs(found - on_white).max() <= 1
    assert (found[:2] == 255).all()
    assert np.array_equal(found[2:4], RGB[2:4])


def test_transparency_of_palettes_and_of_single_colours_lies_on_white():
    palette = Image.fromarray(RGB).quantize(16)
    opaque = np.asarray(palette.convert("RGB"))
    index = np.asarray(palette)
    for transparency in (3, bytes([255, 255, 255, 0])):
        found = pixels(encoded(palette, "PNG", transparency=transparency))
        assert (found[index == 3] == 255).all()
        assert np.array_equal(found[index != 3], opaque[index != 3])
    for image, value in ((GREY, int(GREY[3, 3])), (RGB, tuple(map(int, RGB[3, 3])))):
        found = pixels(encoded(image, "PNG", transparency=value))
        assert (found[3, 3] == 255).all()
        assert np.array_equal(found[0, 0], np.broadcast_to(image[0, 0], 3))
    grey16 = GREY.astype(np.uint16) * 257
    found = pixels(encoded(grey16, "PNG", transparency=int(grey16[3, 3])))
    assert (found[3, 3] == 255).all()
    assert (found[0, 0] == GREY[0, 0]).all()


def png(row, bits, colour_type, transparent):
    """A PNG of one row of pixels, in which one colour is transparent."""
    width = len(row) * 8 // bits // (3 if colour_type == 2 else 1)
    header = struct.pack(">IIBBBBB", width, 1, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_a_transparent_colour_is_compared_at_the_bits_of_the_pixels():
    for bits, row in ((2, b"\x1b"), (4, b"\x05\xaf"), (1, b"\x1b")):
        digits = np.unpackbits(np.frombuffer(row, np.uint8)).reshape(-1, bits)
        values = (digits @ (2 ** np.arange(bits)[::-1])).tolist()
        for transparent in set(values):
            expected = [255 if value == transparent else value * 255 // (2**bits - 1) for value in values]
            found = pixels(png(row, bits, 0, struct.pack(">H", transparent)))
            assert found[0, :, 0].tolist() == expected
    for row, transparent, expected in (
        ((0x0000, 0x0100, 0x1234, 0x3400), 0x1234, [0, 1, 255, 0x34]),  # not 0x34, the lower byte of what is stored
        ((0x0000, 0x0100, 0x1234, 0x3400), 0x0100, [0, 255, 0x12, 0x34]),
    ):
        content = png(np.repeat(np.array(row, ">u2"), 3).tobytes(), 16, 2, struct.pack(">3H", *[transparent] * 3))
        assert pixels(content)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_unless_the_pixels_are_wanted_as_stored(kind, orientation):
    image, exif = np.zeros((16, 24, 3), np.uint8), Image.Exif()
    image[:8, :12] = 255
    exif[0x0112] = orientation
    options = {"quality": 100} | ({"lossless": True} if kind == "WEBP" else {})
    content = encoded(image, kind, exif=exif, **(options if kind != "PNG" else {}))
    bright = pixels(content)[..., 0] > 128
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert bright.shape == ((16, 24) if orientation < 5 else (24, 16))
    assert bright[corner[orientation]]
    assert bright.mean() == 0.25
    stored = pixels(content, upright=False)[..., 0] > 128
    assert stored.shape == (16, 24)
    assert stored[0, 0]


def test_damaged_exif_is_passed_over():
    content = encoded(RGB, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff" * 3)
    assert np.array_equal(pixels(content), pixels(encoded(RGB, "JPEG")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK"])
def test_images_of_8_bits_are_what_pillow_makes_of_them(kind, mode):
    if (kind, mode) not in {("PNG", "CMYK"), ("JPEG", "P")}:
        content = encoded(Image.fromarray(RGB).convert(mode), kind)
        assert np.array_equal(pixels(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "ICO", "QOI", "PPM"])
def test_a_damaged_image_decodes_or_raises_one_kind_of_error(kind):
    rng, whole = np.random.default_rng(0), encoded(Image.fromarray(RGB).resize((32, 32)), kind)
    for number in range(60):
        content = bytearray(whole)
        for position in rng.integers(len(whole), size=3):
            content[position] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert (
                    decode_rgb(bytes(content[: len(whole) if number % 2 else rng.integers(len(whole))])).mode == "RGB"
                )
            except DecodingError:
                continue


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", encoded(GREY, "PNG")[:40]],
)
def test_what_is_no_image_does_not_decode(content):
    with pytest.raises(DecodingError) as first:
        decode_rgb(content)
    with pytest.raises(DecodingError, match=re.escape(str(first.value))):  # without the address of an object
        decode_rgb(bytes(bytearray(content)))


def test_an_image_that_would_be_resized_to_gigabytes_does_not_decode():
    with pytest.raises(DecodingError, match="at most 1000 times as long as wide"):
        decode_rgb(encoded(np.zeros((1, 1001), np.uint8), "PNG"))
    assert decode_rgb(encoded(np.zeros((1, 1000), np.uint8), "PNG")).size == (1000, 1)


def test_suffixes_are_those_of_decoded_formats():
    assert {".jpg", ".jfif", ".png", ".pgm", ".pnm", ".avif", ".webp", ".jp2", ".tif"} <= suffixes()
    assert suffixes().isdisjoint({".eps", ".ps", ".wmf", ".h5", ".mpg", ".pdf", ".txt", ".db", ""})

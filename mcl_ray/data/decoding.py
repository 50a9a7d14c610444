"""Decoding of an encoded image into red, green and blue of 8 bits, by Pillow, and the files that Pillow can decode.

The rules, each stated in docs/images.md:

- An image is turned upright by its EXIF orientation, unless it is to be taken as stored. Only its first frame counts.
- Transparent pixels lie on white. Of a PNG that names one colour as transparent, its colours of 8 bits are compared.
- Grey of 16 and of 12 bits is scaled to 8 bits; real numbers must lie in 0..1. Integers of 32 bits are refused, and
  integers with a sign, as nothing says which of them is white.
- Whatever error a decoder raises, the image does not decode.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import cache

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

NOT_DECODED = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS", "SPIDER"})
"""Formats that Pillow leaves to another program, or whose pixels have no stated range."""
MAX_ELONGATION = 1000
"""Maximum ratio of an image's longer to its shorter side: resizing to the crop would need gigabytes beyond."""
WHITE = (255, 255, 255, 255)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0
_SAMPLE_FORMAT, _SIGNED = 339, 2
_PNG_BIT_DEPTH = 24
"""Position of the byte with the bits of each channel, in a PNG."""


class DecodingError(Exception):
    """An image does not decode; the message has the reason."""


@cache
def formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are decoded."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - NOT_DECODED))


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that are decoded, in lower case with their dot."""
    known = formats()
    return frozenset(suffix for suffix, format_ in Image.registered_extensions().items() if format_ in known)


def decode_rgb(content: bytes, *, upright: bool = True) -> Image.Image:
    """Decode an image into mode RGB.

    Args:
        content: the encoded image.
        upright: whether it is turned by its EXIF orientation. TIFF images are always turned, by Pillow itself.

    Raises:
        DecodingError: it does not decode.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, and of sizes that are large but within the limit
            with Image.open(io.BytesIO(content), formats=formats()) as image:
                image.load()
                if max(image.size) > MAX_ELONGATION * min(image.size):
                    raise DecodingError(f"an image must be at most {MAX_ELONGATION} times as long as wide")
                if upright:
                    _turn(image)
                if image.format == "PNG":
                    _scale_transparent_colour(image, content[_PNG_BIT_DEPTH])
                return _to_rgb(image)
    except DecodingError:
        raise
    except UnidentifiedImageError as error:  # its own message has the address of an object
        raise DecodingError("Pillow finds no image of a kind that it decodes") from error
    except Exception as error:  # decoders raise errors of every kind for damaged files, MemoryError among them
        raise DecodingError(f"{type(error).__name__}: {error}") from error


def _turn(image: Image.Image) -> None:
    """Turn the image upright; one whose EXIF is damaged stays as it is."""
    with contextlib.suppress(Exception):  # as of any decoder
        ImageOps.exif_transpose(image, in_place=True)


def _scale_transparent_colour(image: Image.Image, bits: int) -> None:
    """Scale the colour that a PNG names as transparent to the 8 bits of its pixels; Pillow keeps it as stored."""
    colour = image.info.get("transparency")
    if image.mode == "L" and bits < 8 and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**bits - 1)
    elif image.mode == "RGB" and bits == 16 and isinstance(colour, tuple):
        image.info["transparency"] = tuple(channel >> 8 for channel in colour)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(_scaled(image, _peak(image)), image)
    if image.mode == "I" and image.format == "PPM":  # Pillow has scaled it to 16 bits
        return _grey(_scaled(image, 2**16 - 1), image)
    if image.mode == "F":
        return _grey(_from_real(image), image)
    if image.mode == "I" or _SIGNED in getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, ()):  # L, for those of 8 bits
        raise DecodingError(
            "integers of 32 bits, or with a sign, have no stated white; save the image with 8 or 16 bits"
        )
    if image.has_transparency_data:
        straight = image.convert("LA") if image.mode == "La" else image
        colours = straight.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), colours).convert("RGB")
    return image.convert("RGB")


def _peak(image: Image.Image) -> int:
    """Return the value of white of an image of up to 16 bits."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return int(2 ** bits[0] - 1)


def _scaled(image: Image.Image, peak: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Scale 0..peak to 0..255, rounded to the nearest."""
    pixels = np.asarray(image).astype(np.int64).clip(0, peak)
    return ((pixels * 255 + peak // 2) // peak).astype(np.uint8)


def _from_real(image: Image.Image) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    pixels = np.asarray(image).astype(np.float64)
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
        raise DecodingError(f"real numbers must lie in 0..1, but got {pixels.min()} to {pixels.max()}")
    return np.rint(pixels * 255).astype(np.uint8)


def _grey(pixels: np.ndarray[tuple[int, int], np.dtype[np.uint8]], image: Image.Image) -> Image.Image:
    """Return grey pixels as RGB, with white where the image marks a value as transparent, or counts from white."""
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _MIN_IS_WHITE:  # Pillow inverts these up to 8 bits only
        pixels = 255 - pixels
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels = np.where(np.asarray(image) == transparent, np.uint8(255), pixels)
    return Image.fromarray(pixels).convert("RGB")

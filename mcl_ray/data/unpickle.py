"""Safe reading of untrusted pickles: arrays, lists, dicts, text, bytes and numbers, and nothing else.

The only unpickler of the project. Whatever a file contains, only the builders below are called.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import reprlib
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mcl_ray.errors import DataError

Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"] | NDArray[Any]

MAX_OPCODES = 10_000_000
"""Limit on time and on the memory of the unpickler's memo; CIFAR-100 has about half a million opcodes."""
MAX_DEPTH = 4
"""Maximum nesting of containers; CIFAR-100 has a dict of lists."""
MAX_DIMENSIONS = 8
NUMERIC = re.compile(r"(b1|[iu][1248]|f[248])")
TEXT = re.compile(r"[SU][1-9][0-9]{0,3}")
"""Codes of the dtypes of numpy's scalars that are text."""
_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT
    SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""
OPCODES = frozenset(_OPCODES.split())
"""Opcodes of numbers, text, containers and arrays; without extension codes, persistent ids and instances."""


def read_pickle(raw: bytes, name: str) -> dict[str, Plain]:
    """Read a pickled dict without executing any code from it.

    Keys become text. Strings written by Python 2 become bytes, tuples become lists, and arrays are read-only.

    Args:
        raw: the pickle.
        name: name of the pickle in error messages.

    Raises:
        DataError: the pickle is damaged, or contains anything but plain data.
    """
    try:
        _check_opcodes(raw)
        value = _PlainUnpickler(raw).load()
        plain = _plain(value, MAX_DEPTH, {})
    except DataError as error:
        raise DataError(f"{name} is refused: {error}") from None
    except Exception as error:  # a malicious pickle can raise almost any exception, and none of them is our bug
        raise DataError(f"{name} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(plain, dict):
        raise DataError(f"{name} must hold a dict, but got {type(plain).__name__}")
    return plain


def _check_opcodes(raw: bytes) -> None:
    """Reject unknown opcodes, and memo positions that would make the unpickler allocate gigabytes."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
        if opcode.name not in OPCODES:
            raise DataError(f"plain data must not use the opcode {opcode.name}")
        if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= count:
            raise DataError(f"memo positions must be given in order, but got {argument} at opcode {count}")
        if count >= MAX_OPCODES:
            raise DataError(f"a file must have at most {MAX_OPCODES:,} opcodes")


class _Frozen:
    """Base class of our objects on the unpickler's stack: a pickle cannot set their state."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise DataError(f"nothing can be set on {type(self).__name__.lstrip('_').lower()}")


class _Builder(_Frozen):
    """Replacement of a global that a pickle refers to: callable, without other behaviour."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., object]) -> None:
        self._build = build

    def __call__(self, *arguments: object) -> object:
        return self._build(*arguments)


class _Dtype(_Frozen):
    """A dtype under construction: numeric, or, of scalars only, text."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_: object) -> None:
        text = _text(code)
        if not NUMERIC.fullmatch(text) and not TEXT.fullmatch(text):
            raise DataError(f"arrays must be numeric, but got dtype {text!r}")
        self.dtype: np.dtype[Any] = np.dtype(text)

    def __setstate__(self, state: object) -> None:  # type: ignore[override]
        match state:
            case (3, byte_order, None, None, None, int(), int(), int()) if (order := _text(byte_order)) in (
                "<",
                ">",
                "|",
                "=",
            ):
                self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]
            case _:
                raise DataError(f"numeric dtypes have no fields, but got the state {reprlib.repr(state)}")


class _Array(_Frozen):
    """An array under construction: empty until its state is set."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    def __setstate__(self, state: object) -> None:  # type: ignore[override]
        match state:
            case (1, tuple() as shape, _Dtype() as dtype, bool() | 0 | 1 as fortran, bytes() as data):
                self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C")
            case _:
                raise DataError("an array of numbers must have the state (1, shape, dtype, order, bytes)")


def _text(value: object) -> str:
    """Return text, which Python 2 may have written as bytes."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    if not isinstance(value, str):
        raise DataError(f"text is required, but got {type(value).__name__}")
    return value


def _from_bytes(data: bytes | bytearray, dtype: _Dtype, shape: tuple[object, ...], order: str) -> NDArray[Any]:
    """View `data` as an array; its size is always that of the bytes, never that of a shape which does not match."""
    if dtype.dtype.kind in "SU":
        raise DataError(f"arrays must be numeric, but got dtype {dtype.dtype}")
    sizes = [size for size in shape[:MAX_DIMENSIONS] if type(size) is int and 0 <= size < 2**63]
    if len(sizes) != len(shape) or math.prod(sizes) * dtype.dtype.itemsize != len(data):
        raise DataError(f"{len(data)} bytes are no array of shape {reprlib.repr(shape)} and dtype {dtype.dtype}")
    array = np.frombuffer(data, dtype=dtype.dtype).reshape(sizes, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def _scalar(dtype: object, data: object) -> int | float | bool | str | bytes:
    """Return one of numpy's scalars as the number or text that Python has for it."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or len(data) != dtype.dtype.itemsize:
        raise DataError("a scalar must be built from (dtype, bytes)")
    value: int | float | bool | str | bytes = np.frombuffer(data, dtype.dtype)[0].item()
    return value


def _reconstruct(kind: object, shape: object, _code: object) -> _Array:
    if kind is not NDARRAY or shape != (0,):
        raise DataError(f"arrays start as an empty ndarray, but got the shape {reprlib.repr(shape)}")
    return _Array()


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    match data, dtype, shape, order:
        case ((bytes() | bytearray()), _Dtype(), tuple(), ("C" | "F")):
            return _Array(_from_bytes(data, dtype, shape, order))
    raise DataError("an array of numbers must be built from (bytes, dtype, shape, order)")


def _empty_bytes(*arguments: object) -> bytes:
    if arguments:
        raise DataError("bytes() must be called without arguments")
    return b""


class _Latin1(_Frozen):
    """Bytes as written by protocol 2. The budget prevents that one long text is encoded a million times."""

    __slots__ = ("_bytes_left",)

    def __init__(self, budget_bytes: int) -> None:
        self._bytes_left = budget_bytes

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise DataError(f"bytes must be written as latin1 text, but got {type(text).__name__}")
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise DataError("its bytes must not be longer than the file")
        return text.encode("latin1")


def _never(*_: object) -> NoReturn:
    raise DataError("numpy.ndarray must not be called directly")


NDARRAY = _Builder(_never)
DTYPE = _Builder(_Dtype)
BYTES = _Builder(_empty_bytes)
BUILDERS = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): DTYPE,
    ("numpy.core.multiarray", "_reconstruct"): _Builder(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Builder(_reconstruct),
    ("numpy.core.numeric", "_frombuffer"): _Builder(_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): _Builder(_from_buffer),
    ("numpy.core.multiarray", "scalar"): _Builder(_scalar),
    ("numpy._core.multiarray", "scalar"): _Builder(_scalar),
    ("__builtin__", "bytes"): BYTES,
    ("builtins", "bytes"): BYTES,
}


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows no globals except the builders."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(io.BytesIO(raw), encoding="bytes")
        self._latin1 = _Latin1(len(raw))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._latin1
        if (module, name) not in BUILDERS:
            raise DataError(f"it asks for {module}.{name}, which is not plain data")
        return BUILDERS[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise DataError(f"it refers to the persistent object {reprlib.repr(pid)}")


def _plain(value: object, depth: int, done: dict[int, Plain]) -> Plain:
    """Check `value` recursively and replace placeholders; `done` prevents repeated visits of shared parts."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, _Array) and value.array is not None:
        return value.array
    if id(value) in done:
        return done[id(value)]
    if depth == 0:
        raise DataError(f"containers must be nested at most {MAX_DEPTH} deep")
    result: Plain
    if isinstance(value, list | tuple):
        result = [_plain(item, depth - 1, done) for item in value]
    elif isinstance(value, dict):
        result = {_text(key): _plain(item, depth - 1, done) for key, item in value.items()}
    else:
        raise DataError(f"plain data is required, but got {type(value).__name__.lstrip('_')}")
    done[id(value)] = result
    return result

from __future__ import annotations

import contextlib
import copyreg
import operator
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from mcl_ray.data.unpickle import read_pickle
from mcl_ray.errors import DataError
from tests.support.data import as_python2, contents

DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87R"
NDARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"


def refused(raw: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_pickle(raw, "file")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(protocol: int) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    value = {
        "array": array,
        b"bytes key": [1, -(2**40), 2.5, True, None, "text", b"\x00\xff", b""],
        "columns": np.asfortranarray(array),
        "big endian": np.arange(3, dtype=">i4"),
        "again": array,
        "deep": {"list": [(1, 2)]},
    }
    read = read_pickle(pickle.dumps(value, protocol), "file")
    assert list(read) == ["array", "bytes key", "columns", "big endian", "again", "deep"]
    assert read["bytes key"] == value[b"bytes key"]
    assert read["deep"] == {"list": [[1, 2]]}
    for name in ("array", "columns", "big endian", "again"):
        assert type(read[name]) is np.ndarray
        np.testing.assert_array_equal(read[name], value[name])
        assert not read[name].flags.writeable


def test_what_python_2_wrote() -> None:
    train = contents()["train"]
    read = read_pickle(as_python2(train), "file")
    np.testing.assert_array_equal(read["data"], train["data"])
    assert read["fine_labels"] == train["fine_labels"]
    assert read["filenames"][3] == b"3.png"


class Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, r"(posix|nt)\.system"),
        (eval, r"(builtins|__builtin__)\.eval"),
        (getattr, r"(builtins|__builtin__)\.getattr"),
        (np.load, r"numpy(\.lib\._npyio_impl)?\.load"),
        (operator.attrgetter, r"operator\.attrgetter"),
        (np.frombuffer, r"numpy(\._core\.multiarray)?\.frombuffer"),
    ],
)
def test_nothing_is_called(protocol: int, function: object, name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    refused(pickle.dumps({"data": Calls(function, f"touch {trace}")}, protocol), rf"asks for {name}, ")
    assert not trace.exists()


def test_globals_named_on_the_stack_and_dotted_ones_are_refused() -> None:
    refused(b"\x80\x04\x8c\x05numpy\x8c\x04load\x93\x8c\x01x\x85R.", r"asks for numpy\.load, ")
    refused(b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x00\x93.", r"asks for numpy\.ndarray\.tofile")
    refused(b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", r"asks for numpy\.ndarray\.__init__")


@pytest.mark.parametrize(
    ("raw", "opcode"),
    [
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02\x83\x01\x00.", "EXT2"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        (b"Pid\n.", "PERSID"),
        (b"\x80\x02K\x01Q.", "BINPERSID"),
        (b"(ios\nsystem\n.", "INST"),
        (b"(cnumpy\nndarray\no.", "OBJ"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x04\x8f.", "EMPTY_SET"),
    ],
)
def test_opcodes_that_plain_data_does_not_need(raw: bytes, opcode: str) -> None:
    refused(raw, rf"must not use the opcode {opcode}$")


def test_a_registered_extension_is_not_reached() -> None:
    copyreg.add_extension("os", "system", 240)
    try:
        refused(b"\x80\x02\x82\xf0X\x04\x00\x00\x00true\x85R.", "EXT1")
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize(
    "target",
    [b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n", DTYPE, NDARRAY, b"}", b"]", b"K\x01", b"N"],
)
@pytest.mark.parametrize("state", [b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x06\x00\x00\x00_buildK\x01s\x86", b"K\x01"])
def test_nothing_can_be_set_on_anything(target: bytes, state: bytes) -> None:
    refused(b"\x80\x02" + target + state + b"b.", r"file is (refused|damaged)")
    if target.startswith(b"c") and target.endswith(b"\n"):
        refused(b"\x80\x02" + target + state + b"b.", "nothing can be set on (builder|latin1)")
    assert read_pickle(pickle.dumps({"a": np.arange(3)}, 2), "file").keys() == {"a"}


@pytest.mark.parametrize("target", [b"cnumpy\nndarray\n", b"K\x01", b"]", DTYPE, NDARRAY])
def test_calling_what_is_no_builder(target: bytes) -> None:
    refused(b"\x80\x02" + target + b"(K\x01K\x02tR.", r"file is (refused|damaged)")


@pytest.mark.parametrize(
    "shape",
    [(2**40,), (-1,), (-2, -2), (2**62, 4), (2**70, 0), (4.0,), ("4",), (True, 4), (1,) * 9 + (4,), (3,), (2, 2, 2)],
)
def test_shapes_are_held_against_the_bytes(shape: tuple[object, ...]) -> None:
    state = pickle.dumps(shape, 2)[2:-1]
    array = NDARRAY + b"(K\x01" + state + DTYPE + b"\x89C\x04abcdtb"
    refused(b"\x80\x02" + array + b".", "no array of shape")
    buffer = b"cnumpy._core.numeric\n_frombuffer\n(C\x04abcd" + DTYPE + state + b"X\x01\x00\x00\x00CtR."
    refused(b"\x80\x05" + buffer, "no array of shape")


def test_an_array_cannot_start_large() -> None:
    start = (
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n\x8a\x05\x00\x00\x00\x00\x10\x85C\x01btR."
    )
    refused(start, "empty ndarray")
    refused(b"\x80\x02" + NDARRAY + b".", r"got Array")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}, None], dtype=object),
        np.array(["text"]),
        np.array([b"text"]),
        np.zeros(2, dtype=[("a", "u1")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.zeros(2, dtype=complex),
    ],
)
def test_arrays_must_be_numeric(array: np.ndarray, protocol: int) -> None:
    refused(pickle.dumps({"data": array}, protocol), r"arrays must be numeric|is refused")


@pytest.mark.parametrize("code", [b"O8", b"O", b"u1,O", b"V8", b"u16", b"(2)u1"])
def test_dtypes_by_their_code(code: bytes) -> None:
    refused(b"\x80\x02cnumpy\ndtype\nX" + struct.pack("<I", len(code)) + code + b"\x85R.", "must be numeric")


def test_every_truncation_of_a_pickle_is_damaged() -> None:
    for protocol in (0, 2, 5):
        raw = pickle.dumps(contents(2, 2)["meta"] | {"data": np.arange(4, dtype=np.uint8)}, protocol)
        for length in range(len(raw)):
            refused(raw[:length], r"file is (damaged|refused)")


def test_any_flipped_byte_ends_in_data_or_in_a_data_error() -> None:
    raw = pickle.dumps({"data": np.arange(4, dtype=np.uint8), "names": ["a", b"b"], "labels": [1, 2]}, 2)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        flipped = bytearray(raw)
        for position in rng.integers(len(raw), size=2):
            flipped[position] = rng.integers(256)
        with contextlib.suppress(DataError):
            read_pickle(bytes(flipped), "file")


def test_deep_nesting() -> None:
    refused(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "nested at most 4 deep")
    refused(b"\x80\x02)" + b"\x85" * 100_000 + b".", "nested at most 4 deep")
    refused(pickle.dumps({"a": [[[[1]]]]}), "nested at most 4 deep")


def test_a_list_in_itself() -> None:
    itself: list[object] = []
    itself.append(itself)
    refused(pickle.dumps({"a": itself}), "nested at most 4 deep")


def test_shared_parts_are_walked_once() -> None:
    layer: list[object] = [0] * 3000
    for _ in range(2):
        layer = [layer] * 3000
    read = read_pickle(pickle.dumps({"a": layer}), "file")["a"]  # 27 billion leaves to one who walks them all
    assert read[0] is read[2999]


@pytest.mark.parametrize("raw", [b"\x80\x02Nr\xff\xff\xff\x7f.", b"Np4000000000\n.", b"\x80\x02Nr\x40\x00\x00\x00."])
def test_memo_positions_far_ahead(raw: bytes) -> None:
    refused(raw, "memo positions")


def test_lengths_beyond_the_file() -> None:
    for opcode in (b"\x8e", b"\x8d", b"\x96"):
        refused(b"\x80\x05" + opcode + struct.pack("<Q", 2**50) + b"abc.", "is damaged")
    refused(b"\x80\x02\x8b\xff\xff\xff\x7fabc.", "is damaged")


def test_one_text_encoded_over_and_over() -> None:
    once = (
        b"c_codecs\nencode\nq\x00X" + struct.pack("<I", 4096) + b"x" * 4096 + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86R"
    )
    again = b"h\x00h\x01h\x02\x86R"
    refused(b"\x80\x02](" + once + again * 5 + b"e.", "longer than the file")
    utf7 = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00xX\x05\x00\x00\x00utf_7\x86R."
    refused(utf7, "latin1")


@pytest.mark.parametrize("value", [[1], "text", 1, None, np.arange(3)])
def test_the_top_must_be_a_dict(value: object) -> None:
    refused(pickle.dumps(value), "must hold a dict")


@pytest.mark.parametrize("value", [{1: 2}, {None: 2}, {(1, 2): 3}, {"a": bytearray(b"x")}, {"a": {1, 2}}, {"a": 1j}])
def test_other_types_are_refused(value: object) -> None:
    refused(pickle.dumps(value, 4), r"file is refused")
    refused(pickle.dumps(value, 5), r"file is refused")

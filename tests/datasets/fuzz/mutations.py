"""What may be wrong with a file: its bytes, what it packs, and the arrays it was made of."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

Arrays = dict[str, np.ndarray]
Change = Callable[[bytes], bytes]

# Around what the types of headers, counts and ids can hold.
_NUMBERS = [
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    10**15,
    2**63 - 1,
    -1,
    -5,
]
_FLOATS = [np.nan, np.inf, -np.inf, -1.0, 0.5, 1e300, 2.0**63, -0.0, 1e15]
_DTYPES = [
    "int8",
    "uint8",
    "int16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    ">i8",
    "bool",
]
_TEXTS = [
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"9" * 30,
    b"",
    b",",
    b'"',
    b"\x00",
    b"\xff\xfe",
    b"\n",
    b"1.5",
    b"x",
    b"None",
]
_BRACKETS = [b"[" * 3000, b"(" * 3000, b"{" * 3000, b"1000000000000000, ", b"-7", b"'O'", b"True"]


@st.composite
def byte_changes(draw: st.DrawFn) -> Change:
    """One change of some bytes, wherever they are."""
    kind = draw(st.sampled_from(["flip", "cut", "drop", "repeat", "number", "text", "swap", "empty", "noise"]))
    place, other = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    bit, size = draw(st.integers(0, 7)), draw(st.integers(1, 40))
    number, width = draw(st.sampled_from(_NUMBERS)), draw(st.sampled_from([1, 2, 4, 8]))
    order = draw(st.sampled_from(["little", "big"]))
    text = draw(st.sampled_from(_TEXTS + _BRACKETS))
    noise = draw(st.binary(min_size=1, max_size=8))

    def change(content: bytes) -> bytes:
        i, j = int(place * len(content)), int(other * len(content))
        if kind == "empty" or not content:
            return b""
        if kind == "flip":
            i = min(i, len(content) - 1)
            return content[:i] + bytes([content[i] ^ 1 << bit]) + content[i + 1 :]
        if kind == "cut":
            return content[:i]
        if kind == "drop":
            return content[:i] + content[i + size :]
        if kind == "repeat":
            return content[:i] + content[i : i + size] * 2 + content[i + size :]
        if kind == "number":
            inserted = (number % 256**width).to_bytes(width, order)
            return content[:i] + inserted + content[i + width :]
        if kind == "text":
            return content[:i] + text + content[i + (len(text) if bit % 2 else 0) :]
        if kind == "swap":
            first, second = content[i : i + size], content[j : j + size]
            return content[:i] + second + content[i + len(second) : j] + first + content[j + len(first) :]
        return content[:i] + noise + content[i + len(noise) :]

    return change


@st.composite
def packed_changes(draw: st.DrawFn) -> Change:
    """A change of what a `.gz` or `.zip` file packs, with checksums that are right again; of others, of their bytes."""
    inner = draw(byte_changes())
    which, compress = draw(st.integers(0, 30)), draw(st.booleans())
    name = draw(st.sampled_from([None, None, None, None, None, "../escaped", "/tmp/escaped", "x" * 300, "", "a\x00b"]))

    def change(content: bytes) -> bytes:
        if content[:2] == b"\x1f\x8b":
            try:
                return gzip.compress(inner(gzip.decompress(content)), 1)
            except (OSError, EOFError, zlib.error):
                return inner(content)
        if content[:2] == b"PK":
            try:
                return _repacked(content, which, inner, name, compress)
            except Exception:  # an earlier change has broken the archive
                return inner(content)
        return inner(content)

    return change


def _repacked(content: bytes, which: int, inner: Change, name: str | None, compress: bool) -> bytes:
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for number, entry in enumerate(old.namelist()):
            is_changed = number == which % len(old.namelist())
            member = old.read(entry)
            if member[:2] == b"PK" and is_changed:
                member = _repacked(member, which // 2, inner, None, compress)
            elif is_changed:
                member = inner(member)
            new.writestr(entry if name is None or not is_changed else name, member)
    return buffer.getvalue()


@st.composite
def file_changes(draw: st.DrawFn) -> Callable[[Path], None]:
    """Changes of one to three files of a folder."""
    kind = st.one_of(byte_changes(), packed_changes(), packed_changes())
    changes = draw(st.lists(st.tuples(st.integers(0, 60), kind), min_size=1, max_size=3))

    def change(folder: Path) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        for which, one in changes:
            path = paths[which % len(paths)]
            path.write_bytes(one(path.read_bytes()))

    return change


@st.composite
def array_changes(draw: st.DrawFn) -> Callable[[Arrays], Arrays]:
    """Changes of one to three of the arrays that a data set is made of."""
    kinds = ["value", "type", "cut", "empty", "repeat", "shuffle", "shape", "wide", "negate", "constant", "order"]
    step = st.tuples(
        st.integers(0, 60),
        st.sampled_from(kinds),
        st.floats(0, 1),
        st.sampled_from(_NUMBERS),
        st.sampled_from(_FLOATS),
        st.sampled_from(_DTYPES),
        st.integers(0, 2**16),
    )
    steps = draw(st.lists(step, min_size=1, max_size=3))

    def change(arrays: Arrays) -> Arrays:
        arrays = dict(arrays)
        names = sorted(arrays)
        for which, kind, place, number, real, dtype, seed in steps:
            name = names[which % len(names)]
            with np.errstate(all="ignore"):
                arrays[name] = _changed(arrays[name], kind, place, number, real, dtype, seed)
        return arrays

    return change


def _changed(array: np.ndarray, kind: str, place: float, number: int, real: float, dtype: str, seed: int) -> np.ndarray:
    i = int(place * max(array.size - 1, 0))
    if kind in ("value", "constant") and array.size:
        new = array.astype(np.int64 if array.dtype.kind in "biu" else np.float64).copy()
        if new.dtype.kind == "f" or seed % 4 == 0:
            new = new.astype(np.float64)
            number = real  # type: ignore[assignment]
        if kind == "value":
            new.reshape(-1)[i] = number
        else:
            new[...] = number
        return new
    if kind == "type":
        return array.astype(dtype)
    if kind == "cut":
        return array[: int(place * len(array))] if array.ndim else array
    if kind == "empty":
        return array[:0] if seed % 2 or array.ndim < 2 else array[:, :0]
    if kind == "repeat" and array.ndim:
        return np.concatenate([array, array[: seed % 5]])
    if kind == "shuffle":
        return np.random.default_rng(seed).permutation(array) if array.ndim else array
    if kind == "shape":
        return array.reshape([(-1,), (1, -1), (-1, 1), (1, 1, -1)][seed % 4])
    if kind == "wide" and array.ndim == 2:
        return np.concatenate([array, array], axis=1)
    if kind == "negate" and array.dtype.kind in "if":
        return -array
    if kind == "order":
        return np.asfortranarray(array)
    return array

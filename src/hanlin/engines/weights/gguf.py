"""Write a GGUF file, version 3: the container that llama.cpp reads. Values and tensors in, bytes out, in order.

The same input gives the same bytes, so that a file made here has a digest that a row of the catalogue can name.
The form: ggml-org/ggml:docs/gguf.md.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

ALIGNMENT = 32

_VERSION = 3
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


class Kind(IntEnum):
    """How a tensor's numbers are stored, by ggml's ids."""

    F32 = 0
    Q4_0 = 2


_BLOCKS: Mapping[Kind, tuple[int, int]] = {Kind.F32: (1, 4), Kind.Q4_0: (32, 18)}  # numbers and bytes of a block


@dataclass(frozen=True)
class Floats:
    """An array of 32-bit floats, as little-endian bytes."""

    data: bytes


@dataclass(frozen=True)
class Integers:
    """An array of signed 32-bit integers."""

    values: Sequence[int]


Value = bool | int | float | str | Sequence[bytes] | Floats | Integers
"""An `int` is written as an unsigned 32-bit number; a sequence of `bytes` is an array of strings."""


@dataclass(frozen=True)
class Tensor:
    """A tensor by name. `shape` has the row's length first, as GGUF does; `data` is exactly as long as that takes."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    data: bytes | memoryview

    @property
    def size_bytes(self) -> int:
        """How many bytes the shape takes."""
        numbers, size = _BLOCKS[self.kind]
        count = 1
        for length in self.shape:
            count *= length
        return count // numbers * size


def write(put: Callable[[bytes], object], facts: Mapping[str, Value], tensors: Sequence[Tensor]) -> None:
    """Hand the file to `put`, piece by piece. Raises ValueError for a tensor whose data is not what its shape takes."""
    for tensor in tensors:
        if len(tensor.data) != tensor.size_bytes:
            raise ValueError(f"{tensor.name} has {len(tensor.data)} bytes, its shape takes {tensor.size_bytes}")
    head = b"".join(_head(facts, tensors))
    put(head + _padding(len(head)))
    for tensor in tensors:
        put(bytes(tensor.data))
        put(_padding(tensor.size_bytes))


def _head(facts: Mapping[str, Value], tensors: Sequence[Tensor]) -> Iterable[bytes]:
    yield struct.pack("<4sIQQ", b"GGUF", _VERSION, len(tensors), len(facts))
    for name, value in facts.items():
        yield _text(name.encode())
        yield _value(value)
    offset = 0
    for tensor in tensors:
        yield _text(tensor.name.encode())
        yield struct.pack("<I", len(tensor.shape))
        yield struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        yield struct.pack("<IQ", tensor.kind, offset)
        offset += tensor.size_bytes + len(_padding(tensor.size_bytes))


def _value(value: Value) -> bytes:
    if isinstance(value, bool):  # before int, which it is as well
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value.encode())
    if isinstance(value, Floats):
        return struct.pack("<IIQ", _ARRAY, _FLOAT32, len(value.data) // 4) + value.data
    if isinstance(value, Integers):
        count = len(value.values)
        return struct.pack("<IIQ", _ARRAY, _INT32, count) + struct.pack(f"<{count}i", *value.values)
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % ALIGNMENT)

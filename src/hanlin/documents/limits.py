"""How much of everything a file may take while it becomes text."""

import msgspec

MIB = 2**20


class Limits(msgspec.Struct, frozen=True, gc=False):
    """Bounds of one parse. The defaults are the contract's (spec/scenarios.md §2.2) or leave it room.

    `memory_bytes` bounds the address space of the process that parses, `ocr_memory_bytes` that of one that recognises
    text in pictures: its libraries map far more than they use. Without having read anything more it may go on for
    `stall_cpu_s` of CPU time and for `stall_s` by the clock, which on a busy machine are far apart; `total_s` bounds
    the whole. `reads_pictures`: the text of pages and files that are pictures; with `looks_everywhere` that of pictures
    among text as well.
    """

    file_bytes: int = 150 * MIB
    image_bytes: int = 20 * MIB
    pages: int = 15_000
    characters: int = 160_000_000
    unpacked_bytes: int = 1024 * MIB
    unpacked_ratio: int = 250
    archive_entries: int = 20_000
    image_pixels: int = 100_000_000
    memory_bytes: int = 1024 * MIB
    ocr_memory_bytes: int = 6 * 1024 * MIB
    stall_cpu_s: float = 25.0
    stall_s: float = 120.0
    total_s: float = 3600.0
    reads_pictures: bool = True
    looks_everywhere: bool = False


__all__ = ["MIB", "Limits"]

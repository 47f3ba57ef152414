"""The embedded engine's orders: what llama.cpp is told, chosen from the weights and from the machine.

Pure: memory and cores are arguments. The process itself is `llama_child`, its life is `supervisor`'s.
"""

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

GIB = 1024**3
SLOTS = 4


@dataclass(frozen=True)
class Machine:
    """What the orders are cut for: memory that is free now, and cores that this process may use."""

    free_bytes: int
    cores: int


@dataclass(frozen=True)
class Orders:
    """Everything that the child needs to know. `context_tokens` is for each of the `slots`."""

    name: str
    model_path: str
    socket: str
    context_tokens: int
    slots: int
    threads: int
    batch_tokens: int
    cache_mib: int
    spin: int
    parent_pid: int
    embeds: bool = False  # vectors and no text: every window is read in one batch, and its tokens are averaged

    def line(self) -> dict[str, object]:
        """Return the orders as the child reads them."""
        return asdict(self)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "hanlin.engines.llama_child"]

    def environment(self) -> dict[str, str]:
        """Return the child's environment: what it needs to run, and no secrets.

        Threads that spin for long between two steps are fast alone and collapse beside other work (OpenMP's default);
        threads that never spin are slow alone. `spin` is in between; bench/threads.py measures it.
        """
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
        return {**kept, "GOMP_SPINCOUNT": str(self.spin), "PYTHONUNBUFFERED": "1"}


def orders(
    name: str,
    path: Path,
    socket: Path,
    machine: Machine,
    *,
    trained_tokens: int,
    threads: int = 0,
    slots: int = 0,
    context_tokens: int = 0,
    spin: int = 1000,
) -> Orders:
    """Return what llama.cpp is told; 0 means "choose from the machine"."""
    slots = slots or SLOTS
    threads = threads or max(1, machine.cores)
    size_bytes = path.stat().st_size
    return Orders(
        name=name,
        model_path=str(path),
        socket=str(socket),
        context_tokens=min(context_tokens or context_that_fits(machine.free_bytes, size_bytes, slots), trained_tokens),
        slots=slots,
        threads=threads,
        batch_tokens=batch_that_lasts(size_bytes, threads),
        cache_mib=256 if machine.free_bytes >= 8 * GIB else 64,
        spin=spin,
        parent_pid=os.getpid(),
    )


def context_that_fits(free_bytes: int, size_bytes: int, slots: int) -> int:
    """Return the context of one slot in tokens: a power of two, 2,048 to 16,384.

    All slots together take up to a quarter of the memory that is left beside the weights, which need 1.75 times their
    file (measured). A token takes about a 38,000th of the file's size: 28 KiB at 1.1 GB, 144 KiB at 5 GB.
    """
    room_bytes = max(free_bytes - 1.75 * size_bytes, 0) / 4
    fitting = room_bytes / (slots * max(size_bytes / 38_000, 1))
    context = 2_048
    while context * 2 <= min(fitting, 16_384):
        context *= 2
    return context


def batch_that_lasts(size_bytes: int, threads: int) -> int:
    """Return how many prompt tokens are read at a time, so that a batch lasts about 250 ms: a power of two, 8 to 512.

    A hang-up during prefill is noticed between two batches. Measured on two cores: 0.5 GB of weights read 32 tokens in
    200 ms (86% of the speed of 512 at once), 1.1 GB read 16 in 230 ms (87%).
    """
    fitting = 9.5e6 * 2**10 * threads / max(size_bytes, 1)
    batch = 8
    while batch * 2 <= min(fitting, 512):
        batch *= 2
    return batch


def embedding_orders(
    name: str, path: Path, socket: Path, machine: Machine, *, window_tokens: int, threads: int = 0, spin: int = 1000
) -> Orders:
    """Return what llama.cpp is told for an embedding model whose longest window is `window_tokens`.

    One window at a time: on two cores several at once are slower, and take about a megabyte for each of their tokens
    (llama.cpp keeps room for a token's likelihoods, of which there are a quarter of a million, beside its vector).
    """
    return Orders(
        name=name,
        model_path=str(path),
        socket=str(socket),
        context_tokens=window_tokens,
        slots=1,
        threads=threads or max(1, machine.cores),
        batch_tokens=window_tokens,
        cache_mib=0,
        spin=spin,
        parent_pid=os.getpid(),
        embeds=True,
    )

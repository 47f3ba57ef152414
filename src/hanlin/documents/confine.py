"""What a process that reads strangers' files takes from itself before it opens one.

Everything here holds for the rest of its life. What a kernel does not offer is left out: each measure stands alone.
"""

import contextlib
import ctypes
import os
import resource
import sys

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_OPEN_FILES = 256
_NICE = 5
_FORBIDDEN = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.posix_spawn")


def confine(*, memory_bytes: int, most_memory_bytes: int, cpu_s: float, file_bytes: int) -> None:
    """Bound memory, CPU time and the size of files, leave the network, and start no other processes.

    `memory_bytes` is of address space; it can be raised later, to `most_memory_bytes` (`allow_memory`).
    """
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_AS, memory_bytes, max(memory_bytes, most_memory_bytes))
    _limit(resource.RLIMIT_CPU, int(cpu_s) + 1, int(cpu_s) + 2)
    _limit(resource.RLIMIT_FSIZE, file_bytes, file_bytes)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES)
    os.nice(_NICE)  # whoever waits for an answer comes before whoever has just uploaded a file
    if sys.platform == "linux":
        # Root needs no users of its own for it, and would lose what lets it read the files of others.
        spaces = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
        ctypes.CDLL(None, use_errno=True).unshare(spaces)  # many containers do not allow it
    sys.addaudithook(_refuse)


def _limit(which: int, soft: int, hard: int) -> None:
    """Set a limit, or what is left of it where the service itself has less."""
    _, most = resource.getrlimit(which)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (soft, hard))


def allow_memory(most_bytes: int) -> None:
    """Raise the bound of memory, for work that is known to need more."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    _limit(resource.RLIMIT_AS, most_bytes, hard)


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    if event in _FORBIDDEN:
        raise PermissionError(f"a parser does not do this: {event}")


__all__ = ["allow_memory", "confine"]

"""How a child ends with its parent, however that ends. Standard library alone: children load no more than they need."""

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def when_the_parent_dies(wanted: signal.Signals) -> None:
    """Have the kernel send a signal then, however the parent dies, and also while this process is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, wanted)


def die_with_the_parent(parent_pid: int) -> None:
    """End when the parent ends: by the kernel's signal, and by the end of stdin.

    The kernel forgets its promise when a process changes its namespaces, and lets none change them that has threads:
    whoever does both calls this last.
    """
    when_the_parent_dies(signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)
    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


__all__ = ["die_with_the_parent", "when_the_parent_dies"]

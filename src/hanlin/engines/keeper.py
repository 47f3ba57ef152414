"""The process between Hanlin and an engine that is somebody else's program: nothing of the engine outlives it.

Started by `supervisor` as `python -m hanlin.engines.keeper`, at the head of a process group of its own. The first
line on stdin is its orders as JSON: `command`, `parent_pid`, `grace_s`. It starts the command in the same group, with
its own environment and output, and ends as the command does. Told to end (SIGTERM), or once its parent is gone (the end
of stdin), it passes that on, gives the command `grace_s`, and kills whatever is left of the group.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from hanlin.engines.parent import when_the_parent_dies

_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_NOT_STARTED = 127
_DYING_S = 5.0
_PAUSE_S = 0.02


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)  # they are waited for, and none is missed
    when_the_parent_dies(signal.SIGTERM)
    if os.getppid() != orders["parent_pid"]:
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold the weights
    child = os.fork()
    if child == 0:
        _become(orders["command"])
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    status = _wait(child, orders["grace_s"])
    _end_the_group()
    _end_alike(status)


def _become(command: list[str]) -> None:
    """Turn this process into the command. Its worker processes watch it themselves; it must not outlive its keeper."""
    when_the_parent_dies(signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 (a command without a shell is what is wanted)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(_NOT_STARTED)


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _wait(child: int, grace_s: float) -> int:
    """Return the child's status once it has ended, by itself or because it was told to."""
    deadline: float | None = None
    while True:
        remaining_s = None if deadline is None else max(deadline - time.monotonic(), 0)
        received = signal.sigwait(_WATCHED) if remaining_s is None else _within(remaining_s)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if received in (signal.SIGTERM, signal.SIGINT) and deadline is None:
            deadline = time.monotonic() + grace_s
            os.kill(child, signal.SIGTERM)
        elif received is None:
            os.kill(child, signal.SIGKILL)


def _within(remaining_s: float) -> signal.Signals | None:
    received = signal.sigtimedwait(_WATCHED, remaining_s)
    return signal.Signals(received.si_signo) if received is not None else None


def _end_the_group() -> None:
    """Kill what the command has started and left behind, nothing else, and wait until it is gone: it holds the card."""
    deadline = time.monotonic() + _DYING_S
    while (left := _others()) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)


def _others() -> list[int]:
    """Return the processes of this group that still run, but for this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            # The command's name stands in brackets and may hold anything; behind it: state, parent, group.
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == os.getpgrp() and state not in "ZX" and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def _end_alike(status: int) -> None:
    """End as the child did, so that whoever watches this process reads the child's own end."""
    if os.WIFSIGNALED(status):
        wanted = os.WTERMSIG(status)
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler to be reset
            signal.signal(wanted, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.kill(os.getpid(), wanted)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


if __name__ == "__main__":
    main()

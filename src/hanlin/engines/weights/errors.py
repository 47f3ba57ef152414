"""Every way in which fetching weights can fail; the messages end with what to do.

WeightsError
  SourceFailed          one source did not give the bytes; the next one is tried
    SourceUnreachable     no connection, silence, or only errors that could pass
    SourceUnusable        it answers, but does not have this file
    DigestMismatch        bytes came, but not these
  NoSource              every source failed; `failures` says how
  DoesNotFit            no quantisation fits this machine's memory
  DiskFull              what was fetched is kept; the next run goes on from there
  FolderUnusable        the models folder cannot be written or read
"""

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from hanlin.words import say

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class WeightsError(Exception):
    """Weights could not be had; `message` is for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SourceFailed(WeightsError):
    """One source did not give the bytes. `source` is its label, `why` the reason, without addresses' secrets."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(say(f"{source}: {mask(why)}", f"{source}：{mask(why)}"))
        self.source = source
        self.why = mask(why)


class SourceUnreachable(SourceFailed):
    """No connection, silence, or only errors that could pass."""


class SourceUnusable(SourceFailed):
    """It answers, but does not have this file."""


class DigestMismatch(SourceFailed):
    """The bytes of this source have another SHA-256; they were thrown away."""

    def __init__(self, source: str, expected: str, found: str) -> None:
        super().__init__(
            source,
            say(
                f"SHA-256 is {found[:12]}…, expected {expected[:12]}…: these are other bytes, thrown away",
                f"SHA-256 为 {found[:12]}…，应为 {expected[:12]}…：内容不符，已丢弃",
            ),
        )


class NoSource(WeightsError):
    """Nothing gave the bytes, or nothing offers them."""

    def __init__(self, message: str, failures: Sequence[SourceFailed] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)

    @classmethod
    def after(cls, name: str, failures: Sequence[SourceFailed]) -> "NoSource":
        """Every source of `name` failed."""
        listed = "".join(f"\n  - {failure.message}" for failure in failures)
        return cls(
            say(
                f"{name}: no source gave these weights.{listed}\n"
                "Check the network or the mirror settings (PIP_INDEX_URL, MODELSCOPE_ENDPOINT, HF_ENDPOINT) "
                "and run the same command again: it goes on where this one stopped",
                f"{name}：所有来源都未能提供该权重。{listed}\n"
                "请检查网络或镜像设置（PIP_INDEX_URL、MODELSCOPE_ENDPOINT、HF_ENDPOINT），然后重新运行同一命令：会从中断处继续",
            ),
            failures,
        )


class DoesNotFit(WeightsError):
    """No quantisation fits: `needed_bytes` is what the smallest one would take."""

    def __init__(self, name: str, quantisation: str, needed_bytes: int, free_bytes: int) -> None:
        missing = needed_bytes - free_bytes
        super().__init__(
            say(
                f"{name}: the smallest file, {quantisation}, needs about {size(needed_bytes)} of memory and "
                f"{size(free_bytes)} are free: {size(missing)} are missing. Free memory, take a smaller model, "
                "or add a [[deployment]] to hanlin.toml that points to a server with room for it",
                f"{name}：最小的文件 {quantisation} 约需 {size(needed_bytes)} 内存，当前可用 {size(free_bytes)}，"
                f"还差 {size(missing)}。请释放内存、换用较小的模型，"
                "或在 hanlin.toml 中添加指向其他服务器的 [[deployment]]",
            )
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class DiskFull(WeightsError):
    """The disk has no room for the weights. What was fetched stays, and the next run goes on from there."""

    def __init__(self, path: Path, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            say(
                f"{path}: {size(needed_bytes)} more are needed, {size(free_bytes)} are free. Make room and run the "
                "same command again (it goes on where it stopped), or set HANLIN_HOME to a larger disk",
                f"{path}：还需要 {size(needed_bytes)}，可用 {size(free_bytes)}。请腾出空间后重新运行同一命令"
                "（会从中断处继续），或将 HANLIN_HOME 指向更大的磁盘",
            )
        )
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class FolderUnusable(WeightsError):
    """The models folder, or a file in it, cannot be read or written."""

    def __init__(self, error: OSError, folder: Path) -> None:
        path = error.filename or folder
        super().__init__(
            say(
                f"{path}: {error.strerror}. Correct its owner and permissions, or set HANLIN_HOME to another folder",
                f"{path}：{error.strerror}。请更正其属主和权限，或将 HANLIN_HOME 指向其他目录",
            )
        )


def is_disk_full(error: OSError) -> bool:
    """Say whether the operating system refused to write for lack of room, quota or permitted file size."""
    return error.errno in _FULL


_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\")]+")


def mask(text: str) -> str:
    """Take user names, passwords and query strings (signed addresses) out of every address in a text."""
    return _QUERY.sub(r"\1?…", _CREDENTIALS.sub("//••••@", text))


def size(size_bytes: int) -> str:
    """Write a size as people read it, in decimal units: 491 MB, 1.12 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return (
                f"{size_bytes / scale:.3g} {unit}" if size_bytes < 1000 * scale else f"{size_bytes / scale:.0f} {unit}"
            )
    return f"{size_bytes} B"

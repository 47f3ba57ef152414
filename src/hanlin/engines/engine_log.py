"""The log of an engine that is somebody else's program: kept in a bounded file, and read for what its end means."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanlin.words import say

log = logging.getLogger("hanlin.engine")

_LOG_BYTES = 10 * 1024 * 1024
_TOLD_LINES = 3

_TELLING = re.compile(r"error|exception|out of memory|denied|not found|no space|refused|killed", re.IGNORECASE)


@dataclass(frozen=True)
class Advice:
    """What to do about words in an engine's log."""

    words: re.Pattern[str]
    en: str
    zh: str


ADVICE = (
    Advice(
        re.compile("out of memory|No available memory for the cache blocks|larger than the maximum number of tokens"),
        "the weights and their context do not fit the GPU's memory: set a smaller `context_tokens`, name more `gpus`, "
        "or take quantised weights",
        "权重与上下文超出显存：请减小 `context_tokens`、增加 `gpus`，或换用量化权重",
    ),
    Advice(
        re.compile("unrecognized arguments|invalid choice|expected one argument"),
        "an option does not exist in this release: correct `arguments`, or install a newer release",
        "该版本没有此选项：请更正 `arguments`，或安装更新的版本",
    ),
    Advice(
        re.compile("trust.remote.code"),
        "these weights bring code of their own: if you trust it, add `--trust-remote-code` to `arguments`",
        "该权重自带代码：若信任其来源，请在 `arguments` 中添加 `--trust-remote-code`",
    ),
    Advice(
        re.compile("gated repo|401 Client Error|Repository Not Found"),
        "the hub does not hand these weights out: check their name, or set HF_TOKEN",
        "无法从模型库获取该权重：请检查名称，或设置 HF_TOKEN",
    ),
    Advice(
        re.compile("No space left on device"),
        "the disk is full: free some space, or let HF_HOME name a larger one",
        "磁盘已满：请释放空间，或用 HF_HOME 指定更大的磁盘",
    ),
    Advice(
        re.compile("No CUDA GPUs|Failed to infer device type|NVIDIA driver"),
        "no GPU is seen: check `nvidia-smi` and the numbers in `gpus`",
        "未检测到 GPU：请检查 `nvidia-smi` 与 `gpus` 中的编号",
    ),
)


def advice(lines: Sequence[str]) -> str:
    """Return what to do about an engine that ended with these lines; "" where they say nothing that is known here."""
    said = "\n".join(lines)
    return next((say(one.en, one.zh) for one in ADVICE if one.words.search(said)), "")


def telling(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that a person wants to read first: the last ones that speak of an error, else the last ones."""
    return tuple([line for line in lines if _TELLING.search(line)] or lines)[-_TOLD_LINES:]


class LogFile:
    """The log of one engine, over all its starts: at most `limit_bytes`, and as much again in `….1`."""

    def __init__(self, path: Path, limit_bytes: int = _LOG_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._failed = False

    def write(self, line: str) -> None:
        """Append a line. A log that cannot be written is no reason to stop: that is said once."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size >= self._limit_bytes:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            with open(self._path, "a", encoding="utf-8", opener=private) as file:
                file.write(f"{line}\n")
        except OSError as error:
            if not self._failed:
                log.warning("%s: cannot be written (%s)", self._path, error.strerror)
            self._failed = True


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

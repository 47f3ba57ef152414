"""Choose the file of a repository that this machine can run, and say why.

Pure: the listing, the free memory and the preferences are arguments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hanlin.engines.weights.errors import DoesNotFit, NoSource, size
from hanlin.words import say

_OVERHEAD = 1.2  # weights repacked for the processor, context and buffers, per byte of file
_OVERHEAD_BYTES = 512 * 1024 * 1024
_QUANTISATION = re.compile(
    r"(?:^|[-._/])((?:UD-)?I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32)(?=[-./]|$)",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
# Companions of a model that lie beside it and cannot answer on their own.
_COMPANION = re.compile(r"mmproj|imatrix|[-_.]lora[-_.]", re.IGNORECASE)


@dataclass(frozen=True)
class HubFile:
    """A file of a hub's listing; `path` is inside its repository, `sha256` that of its content."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Choice:
    """The files of one quantisation, in order, what they will need, and a sentence that says why these."""

    quantisation: str
    files: tuple[HubFile, ...]
    size_bytes: int
    memory_bytes: int
    reason: str


def is_model_file(path: str) -> bool:
    """Say whether a path is a model, or a part of one, in the engine's format."""
    return path.lower().endswith(".gguf") and _COMPANION.search(path) is None


def quantisation(path: str) -> str:
    """Read the quantisation from a file's path, in capitals (`Q4_K_M`); "" when it names none."""
    name = path.rpartition("/")[2]
    found = _QUANTISATION.findall(name) or _QUANTISATION.findall(path)
    return str(found[-1]).upper() if found else ""


def memory_needed(size_bytes: int) -> int:
    """Estimate the memory that serving a file takes."""
    return int(size_bytes * _OVERHEAD) + _OVERHEAD_BYTES


def pick(files: Sequence[HubFile], free_memory_bytes: int, preferences: Sequence[str], *, name: str) -> Choice:
    """Choose the first preferred quantisation that fits; others come after, smallest first.

    `name` is what the user calls the model. Raises NoSource without a whole model, DoesNotFit when even the smallest is
    too large.
    """
    sets = _whole_sets(files)
    if not sets:
        raise NoSource(say(f"{name}: there is no complete GGUF file", f"{name}：没有完整的 GGUF 文件"))
    order = {preferred.upper(): place for place, preferred in enumerate(preferences)}
    ranked = sorted(sets, key=lambda item: (order.get(item[0], len(order)), _size(item[1]), item[1][0].path))
    passed: list[str] = []
    for label, parts in ranked:
        needed = memory_needed(_size(parts))
        if needed <= free_memory_bytes:
            reason = _reason(label or parts[0].path, parts, needed, free_memory_bytes, passed)
            return Choice(label, parts, _size(parts), needed, reason)
        passed.append(
            say(f"{label or parts[0].path} needs {size(needed)}", f"{label or parts[0].path} 需要 {size(needed)}")
        )
    label, parts = min(sets, key=lambda item: _size(item[1]))
    raise DoesNotFit(name, label or parts[0].path, memory_needed(_size(parts)), free_memory_bytes)


def _reason(label: str, parts: Sequence[HubFile], needed: int, free: int, passed: Sequence[str]) -> str:
    en = f"{label}, {size(_size(parts))}: needs about {size(needed)} of memory, {size(free)} are free"
    zh = f"{label}，{size(_size(parts))}：约需 {size(needed)} 内存，当前可用 {size(free)}"
    if passed:
        listed = ", ".join(passed)
        return say(f"{en}; preferred but too large: {listed}", f"{zh}；更优先但放不下：{listed}")
    return say(f"{en}; the first choice", f"{zh}；首选")


def _size(parts: Sequence[HubFile]) -> int:
    return sum(part.size_bytes for part in parts)


def _whole_sets(files: Sequence[HubFile]) -> list[tuple[str, tuple[HubFile, ...]]]:
    """Group the parts of split models, drop what is incomplete or no model, and name each one's quantisation."""
    groups: dict[str, dict[int, HubFile]] = {}
    totals: dict[str, int] = {}
    for file in files:
        if not is_model_file(file.path):
            continue
        match = _SPLIT.search(file.path)
        stem = file.path[: match.start()] if match else file.path
        key = f"{stem}|{match[2]}" if match else stem
        groups.setdefault(key, {})[int(match[1]) if match else 1] = file
        totals[key] = int(match[2]) if match else 1
    return [
        (quantisation(parts[1].path), tuple(parts[number] for number in range(1, totals[key] + 1)))
        for key, parts in groups.items()
        if set(parts) == set(range(1, totals[key] + 1))
    ]

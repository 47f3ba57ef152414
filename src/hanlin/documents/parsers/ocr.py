"""Text in pictures, read by rapidocr where the extra `ocr` is installed."""

import importlib.util
import logging
from typing import Any, Protocol

from hanlin.documents import confine
from hanlin.documents.limits import Limits
from hanlin.documents.parsers import flow

_THREADS = 2
_SAME_LINE = 0.5  # of a line's height


class Sight(Protocol):
    """What reads pictures: arrays of RGB or of grey."""

    @property
    def can_read(self) -> bool: ...

    def read(self, picture: Any) -> str: ...


class Eyes:
    """Loads its networks with the first picture and keeps them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._engine: Any = None

    @property
    def can_read(self) -> bool:
        return self._limits.reads_pictures and importlib.util.find_spec("rapidocr") is not None

    def read(self, picture: Any) -> str:
        """Return the text of a picture (an array of RGB or of grey), a line a line, from the top down."""
        if self._engine is None:
            confine.allow_memory(self._limits.ocr_memory_bytes)
            from rapidocr import RapidOCR  # an extra, and the slowest import of all

            logging.getLogger("RapidOCR").setLevel(logging.ERROR)
            self._engine = RapidOCR(
                params={
                    "Global.log_level": "error",
                    "EngineConfig.onnxruntime.intra_op_num_threads": _THREADS,
                    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                }
            )
        result = self._engine(picture)
        if result.txts is None:
            return ""
        return _lines([(_box(points), text) for points, text in zip(result.boxes, result.txts, strict=True)])


Box = tuple[float, float, float, float]


def _box(points: Any) -> Box:
    xs, ys = [float(point[0]) for point in points], [float(point[1]) for point in points]
    return min(xs), min(ys), max(xs), max(ys)


def _lines(found: list[tuple[Box, str]]) -> str:
    """Put pieces of text into lines: pieces at the same height are one line, from left to right."""
    lines: list[list[tuple[Box, str]]] = []
    for box, text in sorted(found, key=lambda piece: (piece[0][1] + piece[0][3]) / 2):
        middle = (box[1] + box[3]) / 2
        if lines:
            last = lines[-1][-1][0]
            if middle - (last[1] + last[3]) / 2 < _SAME_LINE * min(box[3] - box[1], last[3] - last[1]):
                lines[-1].append((box, text))
                continue
        lines.append([(box, text)])
    ordered = (sorted(line, key=lambda piece: piece[0][0]) for line in lines)
    return "\n".join(_joined(line) for line in ordered)


def _joined(line: list[tuple[Box, str]]) -> str:
    """Join the pieces of a line; those far from one another are columns."""
    text, right = "", 0.0
    for box, piece in line:
        gap = box[0] - right
        is_column = text and gap > 1.5 * (box[3] - box[1])
        text = f"{text}  {piece}" if is_column else flow.joined([text, piece])
        right = box[2]
    return text


__all__ = ["Eyes", "Sight"]

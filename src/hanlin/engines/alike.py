"""Frames of one stream that differ in nothing but their text, as nearly all frames of a stream do.

What stands around the text is learned from a frame that was read as a whole. A packet of such frames is then a list of
JSON strings, whatever their number: it costs a handful of steps, where reading frame by frame costs that for each.
"""

import re

import msgspec

_NAME = b'"content":'
_STRING = re.compile(rb' *("(?:[^"\\]|\\.)*")')
_texts = msgspec.json.Decoder(list[str])


class AlikeFrames:
    """What is known of one stream. `known` once something was learned; `hopeless` when nothing can be."""

    __slots__ = ("_begins", "_behind", "_between", "_ends", "hopeless", "known")

    def __init__(self) -> None:
        self.known = False
        self.hopeless = False
        self._begins = self._ends = self._between = b""
        self._behind = 0  # how many bytes of data stand behind a text

    def learn(self, data: bytes, text: str) -> None:
        """Learn from a frame's data, which says `text` and nothing else."""
        at = data.find(_NAME)
        found = _STRING.match(data, at + len(_NAME)) if at >= 0 else None
        if found is None or data.count(_NAME) != 1 or msgspec.json.decode(found.group(1)) != text:
            self.hopeless = True
            return
        self._begins = b"data: " + data[: found.start(1)]
        self._behind = len(data) - found.end()
        self._ends = data[found.end() :] + b"\n\n"
        self._between = self._ends + self._begins
        self.known = True

    def take(self, piece: bytes) -> tuple[list[str], bytes]:
        """Return the texts of such frames at the front of a piece, and the rest of it.

        No text holds a line end as it is, so that what looks like the end of a frame is one. Where anything else stands
        between two of them, nothing is taken.
        """
        if not piece.startswith(self._begins):
            return [], piece
        end = piece.rfind(self._ends)
        if end < 0:
            return [], piece
        # To look for all that stands between two texts takes Python nearly twice as long as this.
        before, behind = len(self._begins), self._behind
        found = [data[before : len(data) - behind] for data in piece[: end + behind].split(b"\n\n")]
        if self._between.join(found) != piece[before:end]:
            return [], piece
        try:
            texts = _texts.decode(b"[%b]" % b",".join(found))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [], piece
        return ([text for text in texts if text] if "" in texts else texts), piece[end + len(self._ends) :]

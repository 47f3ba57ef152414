"""Pictures: what is written in them, whether they are a file or stand within a document."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

log = logging.getLogger("hanlin.documents")

_LONG_SIDE = 4_000  # pixels: text that is still too small then was too small to print
_SHORT_SIDE = 40  # smaller ones within a document are ornaments
_MOST_PICTURES = 500  # of a document; each takes about a second
_FORMATS = ("PNG", "JPEG", "GIF", "BMP")


def pages(work: Work) -> Iterator[Page]:
    """Yield the page. Raises DocumentUnreadable: `too_large`, `broken`, `needs_ocr`."""
    if work.path.stat().st_size > work.limits.image_bytes:
        raise DocumentUnreadable("too_large")
    yield Page(1, _read(work.path, work))


@dataclass
class Pictures:
    """Reads the pictures of one document, each once, and no more than 500 of them."""

    work: Work
    _told: dict[str, str] = field(default_factory=dict)

    def text_of(self, name: str, data: Callable[[], bytes]) -> str:
        """Return what is written in a picture; "" where it is damaged, or too small or too large to be read."""
        if name not in self._told and len(self._told) < _MOST_PICTURES:
            try:
                self._told[name] = _read(io.BytesIO(data()), self.work, least=_SHORT_SIDE)
            except Exception:  # Pillow has no error of its own for what it cannot read, and the text is still there
                log.debug("a picture cannot be read", exc_info=True)
                self._told[name] = ""
            self.work.tick(0, 0)
        return self._told.get(name, "")


def _read(source: Path | IO[bytes], work: Work, least: int = 0) -> str:
    """Return what is written in a picture. Raises DocumentUnreadable, and whatever Pillow says of what is none."""
    import PIL.Image

    PIL.Image.MAX_IMAGE_PIXELS = None  # its own warning would come too late: the header is looked at below
    warnings.simplefilter("ignore")  # pictures that are slightly damaged
    with PIL.Image.open(source, formats=_FORMATS) as image:
        if image.width * image.height > work.limits.image_pixels:
            raise DocumentUnreadable("too_large")
        if not work.sight.can_read:
            raise DocumentUnreadable("needs_ocr")
        if min(image.size) < least:
            return ""
        image.draft("RGB", (_LONG_SIDE, _LONG_SIDE))
        image.thumbnail((_LONG_SIDE, _LONG_SIDE))
        picture = image.convert("RGBA")
    # What is transparent is taken for white: most text is dark.
    paper = PIL.Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)

    import numpy

    return work.sight.read(numpy.asarray(paper.convert("RGB")))


__all__ = ["Pictures", "pages"]

"""Pictures: what is written in them, on one page."""

import warnings
from collections.abc import Iterator

from hanlin.documents.parsers.ocr import Eyes
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

_LONG_SIDE = 4_000  # pixels: text that is still too small then was too small to print
_FORMATS = ("PNG", "JPEG", "GIF", "BMP")


def pages(work: Work) -> Iterator[Page]:
    """Yield the page. Raises DocumentUnreadable: `too_large`, `broken`, `needs_ocr`."""
    import PIL.Image

    if work.path.stat().st_size > work.limits.image_bytes:
        raise DocumentUnreadable("too_large")
    PIL.Image.MAX_IMAGE_PIXELS = None  # its own warning would come too late: the header is looked at below
    warnings.simplefilter("ignore")  # pictures that are slightly damaged
    with PIL.Image.open(work.path, formats=_FORMATS) as image:
        if image.width * image.height > work.limits.image_pixels:
            raise DocumentUnreadable("too_large")
        eyes = Eyes(work.limits)
        if not eyes.can_read:
            raise DocumentUnreadable("needs_ocr")
        image.draft("RGB", (_LONG_SIDE, _LONG_SIDE))
        image.thumbnail((_LONG_SIDE, _LONG_SIDE))
        picture = image.convert("RGBA")
    # What is transparent is taken for white: most text is dark.
    paper = PIL.Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)

    import numpy

    yield Page(1, eyes.read(numpy.asarray(paper.convert("RGB"))))


__all__ = ["pages"]

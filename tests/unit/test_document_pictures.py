"""Facts that stand only in a picture: who asks for pictures too finds them, who asks for text alone does not.

What reads them here is made up, so that nothing has to be installed; it says what it was shown by its size and colour.
"""

import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docx as python_docx
import PIL.Image
import pptx as python_pptx
import pytest

from hanlin.documents.limits import Limits
from hanlin.documents.parsers import docx, pdf, picture, pptx
from hanlin.documents.parsers.work import Work
from tests.documents_corpus import pdf_of_one, pdf_stream

FACT = "启动口令是蓝鲸7431"
TEXT = "本页的正文说明泵站的巡检办法，值班人员每天两次填写记录。"
RED = (200, 0, 0)


@dataclass
class Reader:
    """Reads the fact in whatever is mostly red, and nothing else."""

    can_read: bool = True
    shown: list[tuple[int, ...]] = field(default_factory=list)

    def read(self, seen: Any) -> str:
        self.shown.append(seen.shape)
        red, green = float(seen[..., 0].mean()), float(seen[..., 1].mean())
        return FACT if red > 150 and green < 50 else ""


def png(width: int = 120, height: int = 90) -> bytes:
    made = io.BytesIO()
    PIL.Image.new("RGB", (width, height), RED).save(made, "PNG")
    return made.getvalue()


def word(path: Path) -> None:
    document = python_docx.Document()
    document.add_paragraph(TEXT)
    for _ in range(2):
        document.add_picture(io.BytesIO(png()))
    document.add_picture(io.BytesIO(png(8, 8)))
    document.save(str(path))


def slides(path: Path) -> None:
    show = python_pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[5])
    slide.shapes.title.text = TEXT
    slide.shapes.add_picture(io.BytesIO(png()), 0, 0)
    show.save(str(path))


def page(path: Path) -> None:
    """Write a page of text with a red picture below it, one beside the page, and a white one behind the text."""

    def image(colour: bytes) -> bytes:
        return pdf_stream(
            zlib.compress(colour * 10_000),
            "/Type /XObject /Subtype /Image /Width 100 /Height 100 /ColorSpace /DeviceRGB /BitsPerComponent 8"
            " /Filter /FlateDecode",
        )

    content = "q 200 0 0 100 64 300 cm /I Do Q q 200 0 0 100 900 300 cm /I Do Q q 400 0 0 100 64 650 cm /J Do Q "
    path.write_bytes(
        pdf_of_one(
            f"{content} BT /F 12 Tf 72 700 Td (Inspection of the pumps, twice a day) Tj ET".encode(),
            resources="/XObject << /I 5 0 R /J 6 0 R >> /Font << /F 7 0 R >>",
            others={
                5: image(bytes(RED)),
                6: image(b"\xff\xff\xff"),
                7: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            },
        )
    )


KINDS = {"a.docx": (word, docx), "a.pptx": (slides, pptx), "a.pdf": (page, pdf)}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_fact_in_a_picture_among_text_is_found_where_pictures_are_asked_for(
    tmp_path: Path, name: str, everywhere: bool
) -> None:
    """Spec §3.5. Each picture is read once; ornaments, and what text stands on, are not looked at."""
    write, parser = KINDS[name]
    write(tmp_path / name)
    reader = Reader()

    told = "\n".join(
        found.text
        for found in parser.pages(Work(tmp_path / name, limits=Limits(looks_everywhere=everywhere), eyes=reader))
    )

    assert (FACT in told) == everywhere
    assert len(reader.shown) == everywhere
    assert len(told) > 20


@pytest.mark.parametrize("can_read", [True, False])
def test_a_slide_that_is_nothing_but_a_picture_is_read(tmp_path: Path, can_read: bool) -> None:
    """As a scanned page is: slides are often exported so."""
    show = python_pptx.Presentation()
    show.slides.add_slide(show.slide_layouts[6]).shapes.add_picture(io.BytesIO(png()), 0, 0)
    show.save(str(tmp_path / "a.pptx"))

    (found,) = pptx.pages(Work(tmp_path / "a.pptx", eyes=Reader(can_read)))

    assert found.text == (FACT if can_read else "")


def test_a_file_that_is_a_picture_is_read(tmp_path: Path) -> None:
    """No strategy is needed for that."""
    path = tmp_path / "a.png"
    path.write_bytes(png())

    assert [found.text for found in picture.pages(Work(path, eyes=Reader()))] == [FACT]


def test_a_damaged_picture_takes_nothing_from_the_text(tmp_path: Path) -> None:
    """The text is worth more than it."""
    found = picture.Pictures(Work(tmp_path / "x", eyes=Reader()))

    assert found.text_of("a", lambda: png()[:60]) == ""
    assert found.text_of("b", lambda: b"no picture") == ""
    assert found.text_of("c", png) == FACT

"""Pictures of text for tests of text recognition. Chinese characters are drawn stroke by stroke: no font is needed."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

_Stroke = tuple[float, float, float, float]

STROKES: Mapping[str, Sequence[_Stroke]] = {  # from (x, y) to (x, y), in tenths of the character's size
    "三": [(1.5, 1.5, 8.5, 1.5), (2, 5, 8, 5), (0.5, 8.7, 9.5, 8.7)],
    "上": [(4.5, 0.5, 4.5, 9), (4.5, 4, 8.5, 4), (0.5, 9, 9.5, 9)],
    "下": [(0.5, 1, 9.5, 1), (4.8, 1, 4.8, 9.8), (4.8, 3.5, 7.5, 5.5)],
    "中": [(1.5, 2.5, 8.5, 2.5), (1.5, 2.5, 1.5, 6.5), (8.5, 2.5, 8.5, 6.5), (1.5, 6.3, 8.5, 6.3), (5, 0.3, 5, 9.8)],
    "人": [(5, 0.5, 4.6, 4), (4.6, 4, 0.8, 9.5), (4.9, 3.5, 9.3, 9.5)],
    "十": [(0.5, 4.5, 9.5, 4.5), (5, 0.5, 5, 9.5)],
    "土": [(1.5, 4, 8.5, 4), (5, 0.5, 5, 9), (0.5, 9, 9.5, 9)],
    "大": [(0.8, 3.2, 9.2, 3.2), (5, 0.3, 4.6, 4), (4.6, 4, 0.8, 9.6), (4.9, 4, 9.3, 9.6)],
    "山": [(5, 0.5, 5, 9), (1, 4, 1, 9), (9, 4, 9, 9), (1, 9, 9, 9)],
    "工": [(1, 1.2, 9, 1.2), (5, 1.2, 5, 8.8), (0.3, 8.8, 9.7, 8.8)],
    "日": [(2, 0.8, 8, 0.8), (2, 0.8, 2, 9.5), (8, 0.8, 8, 9.5), (2, 5, 8, 5), (2, 9.2, 8, 9.2)],
    "正": [(1, 1, 9, 1), (5, 1, 5, 9), (5, 5, 8.3, 5), (2.2, 4.5, 2.2, 9), (0.4, 9, 9.6, 9)],
    "王": [(1, 1, 9, 1), (1.5, 5, 8.5, 5), (0.5, 9, 9.5, 9), (5, 1, 5, 9)],
    "田": [
        *[(1.5, 1, 8.5, 1), (1.5, 1, 1.5, 9.5), (8.5, 1, 8.5, 9.5)],
        *[(1.5, 5, 8.5, 5), (5, 1, 5, 9), (1.5, 9.2, 8.5, 9.2)],
    ],
}


def picture_of(lines: Sequence[str], *, size: int = 40, margin: int = 60) -> Image.Image:
    """Return a picture of lines of text: dark on white, as from a scanner."""
    side = 740  # as small as text recognition takes pictures without making them larger
    image = Image.new("RGB", (side, max(side, 2 * margin + 2 * size * len(lines))), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=size)
    for number, line in enumerate(lines):
        x, y = float(margin), margin + 2 * size * number
        for character in line:
            if character in STROKES:
                for x0, y0, x1, y1 in STROKES[character]:
                    ends = [(x + x0 * size / 10, y + y0 * size / 10), (x + x1 * size / 10, y + y1 * size / 10)]
                    draw.line(ends, fill="black", width=max(2, size // 12))
                x += size * 1.1
            else:
                draw.text((x, y), character, fill="black", font=font)
                x += draw.textlength(character, font=font)
    return image


__all__ = ["STROKES", "picture_of"]

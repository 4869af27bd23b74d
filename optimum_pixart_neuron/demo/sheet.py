"""Pictures under their captions in one picture; pairs of them with their difference and its PSNR. Needs only PIL."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat

AMPLIFIED = 8
"""Times that a difference of brightness is shown."""

INK, PAPER, FAINT = (32, 32, 32), (255, 255, 255), (110, 110, 110)
FRAME = (200, 200, 200)
GAP = 12  # px between cells
LINE = 17  # px


class _Cell(NamedTuple):
    """Pictures side by side, with a caption above and a note below."""

    caption: str
    pictures: Sequence[Image.Image]
    note: str = ""


def psnr(image_a: Image.Image, image_b: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB over the three channels; infinite when the pictures are equal."""
    difference = ImageChops.difference(image_a.convert("RGB"), image_b.convert("RGB"))
    squares = ImageStat.Stat(difference).sum2
    error = sum(squares) / (3 * difference.width * difference.height)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def contact_sheet(
    rows: Iterable[tuple[str, Image.Image, Image.Image]],
    titles: tuple[str, str] = ("A", "B"),
    columns: int = 2,
    width: int = 150,
) -> Image.Image:
    """One cell per (caption, image_a, image_b), `columns` cells side by side, each picture `width` px wide.

    The third picture of a cell is the difference of the two, `AMPLIFIED` times as bright, on black.
    """
    cells = [_Cell(caption, (a, b, _difference(a, b)), _psnr_text(a, b)) for caption, a, b in rows]
    return _sheet(cells, (*titles, f"difference x {AMPLIFIED}"), columns, width)


def captioned(rows: Iterable[tuple[str, Image.Image]], columns: int = 4, width: int = 224) -> Image.Image:
    """One cell per (caption, image)."""
    return _sheet([_Cell(caption, (image,)) for caption, image in rows], (), columns, width)


def _sheet(cells: Sequence[_Cell], titles: Sequence[str], columns: int, width: int) -> Image.Image:
    text = ImageFont.load_default(13)
    step = width + GAP // 2
    cell_width = len(cells[0].pictures) * step - GAP // 2
    lines = [_wrapped(cell.caption, text, cell_width) for cell in cells]
    height = max(round(width * cell.pictures[0].height / cell.pictures[0].width) for cell in cells)
    top, foot = (26 if titles else 4), (LINE + 8 if any(cell.note for cell in cells) else 0)
    head = 6 + LINE * max(map(len, lines))
    cell_height = head + height + foot
    columns = min(columns, len(cells))
    size = columns * (cell_width + 2 * GAP), top + math.ceil(len(cells) / columns) * (cell_height + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for column in range(columns):
        for place, name in enumerate(titles):
            corner = (GAP + column * (cell_width + 2 * GAP) + place * step, 8)
            pen.text(corner, name, INK, font=ImageFont.load_default(14))
    for index, (cell, caption) in enumerate(zip(cells, lines)):
        left = GAP + index % columns * (cell_width + 2 * GAP)
        y = top + index // columns * (cell_height + GAP)
        for number, words in enumerate(caption):
            pen.text((left, y + 4 + number * LINE), words, INK, font=text)
        for place, image in enumerate(cell.pictures):
            shown = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            corner = (left + place * step, y + head)
            sheet.paste(shown, corner)
            pen.rectangle((*corner, corner[0] + width - 1, corner[1] + height - 1), outline=FRAME)
        pen.text((left, y + head + height + 3), cell.note, FAINT, font=text)
    return sheet


def _difference(image_a: Image.Image, image_b: Image.Image) -> Image.Image:
    found = ImageChops.difference(image_a.convert("RGB"), image_b.convert("RGB"))
    return found.point([min(255, AMPLIFIED * value) for value in range(256)] * 3)


def _psnr_text(image_a: Image.Image, image_b: Image.Image) -> str:
    value = psnr(image_a, image_b)
    return "equal, pixel for pixel" if math.isinf(value) else f"PSNR {value:.1f} dB"


def _wrapped(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines

"""Lay out pairs of pictures under their captions, with the PSNR of each pair, in one picture. Needs only PIL."""

import math
from collections.abc import Iterable

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat

INK, PAPER, FAINT = (32, 32, 32), (255, 255, 255), (110, 110, 110)
GAP = 12  # px between cells
FRAME = (200, 200, 200)

Row = tuple[str, Image.Image, Image.Image]


def psnr(image_a: Image.Image, image_b: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB over the three channels; infinite when the pictures are equal."""
    difference = ImageChops.difference(image_a.convert("RGB"), image_b.convert("RGB"))
    squares = ImageStat.Stat(difference).sum2
    error = sum(squares) / (3 * difference.width * difference.height)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def contact_sheet(
    rows: Iterable[Row], titles: tuple[str, str] = ("A", "B"), columns: int = 2, width: int = 200
) -> Image.Image:
    """One cell per (caption, image_a, image_b), `columns` cells side by side, each picture `width` px wide."""
    rows = list(rows)
    title, text = ImageFont.load_default(15), ImageFont.load_default(13)
    lines = [_wrapped(caption, text, 2 * width + GAP // 2) for caption, _, _ in rows]
    height = max(round(width * image.height / image.width) for _, image, _ in rows)
    top, line = 26, 17
    head, foot = 6 + line * max(len(part) for part in lines), line + 8
    cell_width, cell_height = 2 * width + GAP // 2, head + height + foot
    columns = min(columns, len(rows))
    size = (
        columns * (cell_width + 2 * GAP),
        top + math.ceil(len(rows) / columns) * (cell_height + GAP),
    )
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for column in range(columns):
        left = GAP + column * (cell_width + 2 * GAP)
        for side, name in enumerate(titles):
            pen.text((left + side * (width + GAP // 2), 8), name, INK, font=title)
    for index, ((_, image_a, image_b), caption_lines) in enumerate(zip(rows, lines)):
        left = GAP + index % columns * (cell_width + 2 * GAP)
        y = top + index // columns * (cell_height + GAP)
        for number, words in enumerate(caption_lines):
            pen.text((left, y + 4 + number * line), words, INK, font=text)
        for side, image in enumerate((image_a, image_b)):
            shown = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            corner = (left + side * (width + GAP // 2), y + head)
            sheet.paste(shown, corner)
            pen.rectangle((*corner, corner[0] + width - 1, corner[1] + height - 1), outline=FRAME)
        pen.text((left, y + head + height + 3), _psnr_text(image_a, image_b), FAINT, font=text)
    return sheet


def _psnr_text(image_a: Image.Image, image_b: Image.Image) -> str:
    value = psnr(image_a, image_b)
    return "equal, pixel for pixel" if math.isinf(value) else f"PSNR {value:.1f} dB"


def _wrapped(caption: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines

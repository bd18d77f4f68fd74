"""A picture of pictures: titled sections of captioned, equal cells on white. It must not know what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 192
GAP_PX = 10
GROUP_GAP_PX = 34
MARGIN_PX = 32
TITLE_SIZE, TEXT_SIZE, CAPTION_SIZE = 28, 19, 15
INK, GREY, PALE = (24, 24, 28), (105, 105, 112), (225, 225, 230)


@dataclass(frozen=True)
class Cell:
    """One image, uint8 (H, W, 3), and the words below it; an image may be absent."""

    pixels: np.ndarray | None
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Rows of cells below a heading. All rows are equally long; `column_titles` stand over the columns, if given."""

    title: str
    rows: Sequence[Sequence[Cell]]
    column_titles: Sequence[str] = ()


def draw_sheet(title: str, lines: Sequence[str], sections: Sequence[Section], columns_per_group: int) -> Image.Image:
    """Draw the sections below one another; a wider gap follows each `columns_per_group` columns.

    The canvas is as wide as the widest row and as high as everything needs; long lines are broken.
    """
    columns = max(len(row) for section in sections for row in section.rows)
    width = _left(columns - 1, columns_per_group) + CELL_PX + MARGIN_PX
    header = [(title, TITLE_SIZE, INK)] + [
        (part, TEXT_SIZE, GREY) for line in lines for part in _broken(line, TEXT_SIZE, width - 2 * MARGIN_PX)
    ]
    height = MARGIN_PX + sum(_line_px(size) for _, size, _ in header)
    height += sum(_section_px(section) for section in sections) + MARGIN_PX
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    top = MARGIN_PX
    for text, size, ink in header:
        draw.text((MARGIN_PX, top), text, fill=ink, font=_font(size))
        top += _line_px(size)
    for section in sections:
        _draw_section(canvas, draw, section, top, columns_per_group)
        top += _section_px(section)
    return canvas


def _draw_section(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, section: Section, top: int, columns_per_group: int
) -> None:
    top += GROUP_GAP_PX // 2
    draw.line((MARGIN_PX, top, canvas.width - MARGIN_PX, top), fill=PALE, width=2)
    top += GROUP_GAP_PX // 2
    draw.text((MARGIN_PX, top), section.title, fill=INK, font=_font(TEXT_SIZE))
    top += _line_px(TEXT_SIZE)
    for column, text in enumerate(section.column_titles):
        _centred(draw, text, _left(column, columns_per_group), top, INK)
    top += _line_px(CAPTION_SIZE) if section.column_titles else 0
    for row in section.rows:
        for column, cell in enumerate(row):
            left = _left(column, columns_per_group)
            if cell.pixels is not None:
                canvas.paste(enlarge(cell.pixels), (left, top))
            _centred(draw, cell.caption, left, top + CELL_PX + 4, GREY)
        top += _row_px(row)


def enlarge(pixels: np.ndarray) -> Image.Image:
    """The image as one cell, CELL_PX square (bicubic up, Lanczos down)."""
    image = Image.fromarray(pixels)
    method = Image.Resampling.BICUBIC if max(image.size) <= CELL_PX else Image.Resampling.LANCZOS
    return image.resize((CELL_PX, CELL_PX), method)


def _left(column: int, columns_per_group: int) -> int:
    extra = (GROUP_GAP_PX - GAP_PX) * (column // columns_per_group)
    return MARGIN_PX + column * (CELL_PX + GAP_PX) + extra


def _section_px(section: Section) -> int:
    titles = _line_px(CAPTION_SIZE) if section.column_titles else 0
    return GROUP_GAP_PX + _line_px(TEXT_SIZE) + titles + sum(_row_px(row) for row in section.rows)


def _row_px(row: Sequence[Cell]) -> int:
    return CELL_PX + (_line_px(CAPTION_SIZE) if any(cell.caption for cell in row) else 0) + GAP_PX


def _centred(draw: ImageDraw.ImageDraw, text: str, left: int, top: int, ink: tuple[int, int, int]) -> None:
    """Write a line in the middle of a cell, cut to its width."""
    font = _font(CAPTION_SIZE)
    while text and draw.textlength(text, font=font) > CELL_PX:
        text = text[:-4].rstrip() + "..." if len(text) > 4 else ""
    draw.text((left + (CELL_PX - draw.textlength(text, font=font)) / 2, top), text, fill=ink, font=font)


def _broken(text: str, size: int, width_px: int) -> list[str]:
    """A line as several, each no wider than `width_px` unless a single word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(size).getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _line_px(size: int) -> int:
    return round(size * 1.45)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

"""Figures and animations under the cell of a notebook. In a script they are drawn and not shown, so that it runs alike."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image


def png(made: Figure, *, dpi: int = 80) -> bytes:
    """A figure as the bytes of a PNG of 256 colours at most, a third of the size in full.

    Args:
        made: the figure.
        dpi: pixels an inch; more is sharper and larger.
    """
    out = BytesIO()
    _picture(made, dpi).quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def gif(frames: Iterable[Figure], *, seconds: float = 4.0, hold: float = 1.0, dpi: int = 64) -> bytes:
    """Figures of one size as the bytes of an animation that repeats.

    Args:
        frames: drawn one after another; each is let go before the next is asked for.
        seconds: length of the whole, without ``hold``.
        hold: seconds that the last frame stays on top of its share.
        dpi: pixels an inch.
    """
    pictures = [_picture(made, dpi) for made in frames]
    palette = pictures[-1].quantize(128, dither=Image.Dither.NONE)  # one for all, or still parts would flicker
    first, *rest = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    each = round(1000 * seconds / len(pictures))
    times = [each] * len(rest) + [each + round(1000 * hold)]
    out = BytesIO()
    first.save(out, "GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
    return out.getvalue()


def show(made: Figure, *, dpi: int = 80) -> None:
    """Show a figure under the cell; arguments as for :func:`png`."""
    _under_the_cell(png(made, dpi=dpi), "png")


def play(frames: Iterable[Figure], *, seconds: float = 4.0, hold: float = 1.0, dpi: int = 64) -> None:
    """Show an animation under the cell; arguments as for :func:`gif`."""
    _under_the_cell(gif(frames, seconds=seconds, hold=hold, dpi=dpi), "gif")


def _picture(made: Figure, dpi: int) -> Image.Image:
    out = BytesIO()
    made.savefig(out, format="png", dpi=dpi, facecolor="white")
    return Image.open(out).convert("RGB")


def _under_the_cell(data: bytes, kind: str) -> None:
    if "ipykernel" in sys.modules:
        from IPython import display

        display.display(display.Image(data=data, format=kind))

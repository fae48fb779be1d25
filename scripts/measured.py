"""What the pages of results state about each model, and its column of their pictures: read from the pages, written nowhere else.

A table of results has the data's name in its first heading and a model in each row: a label of the suite of the page's name
(``docs/demo.md`` and ``sixfold/compare/suites/demo.yaml``), or a registry name. Its row ``real data`` is what values are read
beside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from model_page import Measured
from PIL import Image

from sixfold.compare.suite import read_suite, shipped
from sixfold.core.registry import entries, split_name
from sixfold.plot.style import family_colour

NAMED = set(entries())


def _cells(line: str) -> list[str]:
    return [c.strip() for c in line.strip().strip("|").split("|")]


def _bare(text: str) -> str:
    return text.strip("*` ")


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Head and rows of every Markdown table."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        head, rule, *rows = (_cells(line) for line in block.strip().splitlines())
        assert all(set(c) <= set(":- ") for c in rule), f"no rule under {head}"
        yield head, rows


def labels(page: Path, data: str) -> dict[str, str]:
    """Registry name by what the rows of a page's table on these data are called."""
    suite = read_suite(page.stem).models if page.stem in shipped() else ()
    return {e.label: name for e in suite if (name := e.model_on(data))}


def measured(pages: Sequence[Path]) -> dict[str, list[Measured]]:
    """Every score that the pages state, by model."""
    found: dict[str, list[Measured]] = {}
    for page in pages:
        for head, rows in tables(page.read_text(encoding="utf-8")):
            called, real = labels(page, head[0]), next((r for r in rows if _bare(r[0]) == "real data"), [""] * len(head))
            for row in rows:
                model, preset = split_name(called.get(_bare(row[0]), _bare(row[0])))
                if model in NAMED:
                    found.setdefault(model, []).extend(
                        Measured(preset, head[0], score, value.replace("*", ""), beside, page.name)
                        for score, value, beside in zip(head[1:], row[1:], real[1:], strict=True)
                        if value
                    )
    return found


def _runs(flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Where a row of flags is true, as (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def column(picture: Path, colour: str) -> Image.Image:
    """The panels framed in a colour, side by side.

    Args:
        picture: of all models, a column each, in which every panel of a model is framed in its family's colour.
        colour: ``#RRGGBB``.
    """
    image = Image.open(picture).convert("RGB")
    same = (np.asarray(image) == np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])).all(-1)
    across = np.flatnonzero(same.sum(0) > 0.1 * same.shape[0])  # of a frame's upright sides; points are fewer
    left, right = int(across[0]), int(across[-1]) + 1
    rows = _runs(same[:, left:right].mean(1) > 0.9)
    panels = [image.crop((left, top, right, bottom)) for (top, _), (_, bottom) in zip(rows[::2], rows[1::2], strict=True)]
    joined = Image.new("RGB", (sum(p.width + 12 for p in panels) - 12, max(p.height for p in panels)), "white")
    for i, panel in enumerate(panels):
        joined.paste(panel, (i * (panel.width + 12), 0))
    return joined


CAPTIONS = {"moons": "the density where it has one, samples, and the density's error", "digits": "samples"}


def pictures(docs: Path) -> Mapping[str, tuple[Image.Image, str]]:
    """A picture of each model of the suite ``demo`` with its caption: of points where it has them, of digits otherwise."""
    found: dict[str, tuple[Image.Image, str]] = {}
    for data, caption in CAPTIONS.items():
        for name in labels(docs / "demo.md", data).values():
            model = split_name(name)[0]
            if model not in found:
                drawn = column(docs / f"demo-{data}.png", family_colour(name))
                found[model] = drawn, f"`{name}` on {data} after `make demo`: {caption}."
    return found

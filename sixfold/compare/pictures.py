"""Pictures of one data set's outcome as PNG files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sixfold.compare.drawing import Topic
from sixfold.compare.graphs import graphs
from sixfold.compare.looks import looks
from sixfold.compare.outcome import Outcome
from sixfold.plot.style import save, style
from sixfold.run.training import Settings

DPI = 160
"""Pixels an inch: on the page an inch is 100 CSS pixels, so that pictures stay sharp on fine screens."""


@dataclass(frozen=True)
class Picture:
    """A picture that was written.

    Args:
        topic: where in the report it stands.
        path: of the PNG.
        caption: how to read it.
        alt: what it shows, for those who do not see it.
        width, height: in CSS pixels.
    """

    topic: Topic
    path: Path
    caption: str
    alt: str
    width: int
    height: int


def write_pictures(outcome: Outcome, folder: Path) -> list[Picture]:
    """Draw everything that can be drawn of an outcome: overview, references, scores, Pareto plots, curves, codes.

    Args:
        outcome: of one data set.
        folder: an existing folder; files are named after the data and what they show.
    """
    found = []
    with style():
        for drawing in chain(looks(outcome), graphs(outcome)):
            path = folder / f"{Settings.stem_of(outcome.dataset.name, drawing.name)}.png"
            width, height = (round(100 * inches) for inches in drawing.made.get_size_inches())
            found.append(Picture(drawing.topic, save(drawing.made, path, dpi=DPI), drawing.caption, drawing.alt, width, height))
    return found

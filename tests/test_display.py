"""Pictures for notebooks: small files that show what was drawn."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sixfold.plot.display import gif, png
from sixfold.plot.style import figure


def bar(height):
    made = figure(3, 2)
    axes = made.add_subplot()
    axes.set_ylim(0, 1)
    axes.bar([0], [height], color="#0072B2")
    return made


def blue(picture):
    """Share of the picture that the bar covers."""
    red, green, over = (np.asarray(picture.convert("RGB"))[..., c].astype(int) for c in range(3))
    return float(((over - red > 100) & (green < 200)).mean())


def test_a_picture_has_the_size_asked_for_and_keeps_its_colours():
    picture = Image.open(BytesIO(png(bar(0.5), dpi=50)))
    assert (picture.size, picture.mode) == ((150, 100), "P")
    exact = BytesIO()
    bar(0.5).savefig(exact, format="png", dpi=50)
    kept = np.abs(np.asarray(picture.convert("RGB")).astype(int) - np.asarray(Image.open(exact).convert("RGB")))
    assert kept.max() <= 8


def test_an_animation_shows_every_frame_for_its_share_and_holds_the_last():
    movie = Image.open(BytesIO(gif((bar(h) for h in (0.2, 0.5, 0.9)), seconds=1.5, hold=2.0)))
    shown, times = [], []
    for at in range(movie.n_frames):
        movie.seek(at)
        times.append(movie.info["duration"])
        shown.append(blue(movie))
    assert times == [500, 500, 2500]
    assert shown[1] / shown[0] == pytest.approx(2.5, rel=0.1)
    assert shown[2] / shown[0] == pytest.approx(4.5, rel=0.1)
    assert movie.info["loop"] == 0

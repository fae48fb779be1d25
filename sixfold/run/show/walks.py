"""Walks between draws of a prior that has no encoder, and how far a critic is ahead."""

from __future__ import annotations

import torch

from sixfold.core.model import HasLatent, HasPrior
from sixfold.plot.clouds import Panel, panels, place_colours
from sixfold.plot.curves import curves
from sixfold.plot.sheets import HALF, sheet
from sixfold.plot.style import FAMILY_COLOURS, figure
from sixfold.run.show.subject import Drawing, Section, Subject
from sixfold.solve.sphere import slerp

WALKS = 6
STOPS = 9
PATHS = 24
FINE = 80

MARGIN = "margin"
"""What a critic logs of how far its score of real data lies above that of generated ones."""


def walks(s: Subject) -> Section | None:
    """What lies between two draws."""
    if not isinstance(s.model, HasPrior) or isinstance(s.model, HasLatent) or not (s.is_image or s.is_plane):
        return None
    count, stops = (WALKS, STOPS) if s.is_image else (PATHS, FINE)
    cond = s.cond(count)
    count = count if cond is None else len(cond)
    z = torch.randn(2, count, s.model.latent, generator=torch.Generator().manual_seed(0))
    way = slerp(z[0], z[1], torch.linspace(0, 1, stops)).transpose(0, 1)  # (count, stops, Z)
    x = s.model.decode(way.flatten(0, 1), None if cond is None else cond.repeat_interleave(stops, 0)).cpu()
    said = "between two draws of the prior, along a great circle"
    if s.is_image:
        same = "" if cond is None else ", of one class"
        made = sheet(s.pixels(x), STOPS, heads=["draw", *["·"] * (STOPS - 2), "draw"])
        return Section("Latent walks", [Drawing("walks", made, f"Each row is a walk {said}{same}.", f"{count} walks.")])
    paths = x.reshape(count, stops, 2).transpose(0, 1)
    panel = Panel("", lines=paths, line_colours=place_colours(paths[-1]), backdrop=s.data(2000))
    caption = (
        f"{count} walks {said}; a dot ends each. Grey: validation data. The generator is continuous: a walk from mode to mode"
        " crosses what lies between."
    )
    return Section("Latent walks", [Drawing("walks", panels([panel], width=HALF), caption, f"{count} walks over the data.")])


def margins(s: Subject) -> Section | None:
    """The critic's margin over training, where it was logged."""
    logged = [(row["step"], t[MARGIN]) for row in s.metrics for t in row.get("players", {}).values() if t.get(MARGIN) is not None]
    if not logged:
        return None
    steps, values = (list(column) for column in zip(*logged, strict=True))
    made = figure(HALF, 2.9)
    axes = made.subplots()
    axes.axhline(0, color=FAMILY_COLOURS["data"], linewidth=1.0, linestyle=(0, (6, 2)))
    curves(axes, {"D(real) - D(fake)": (steps, values)}, xlabel="step", ylabel="critic's margin")
    late = values[-max(1, len(values) // 10) :]
    caption = (
        f"Mean score of real data less that of generated ones, as logged. At 0 the critic cannot tell them apart."
        f" Over the last tenth of training: {sum(late) / len(late):.3g} in the critic's own units."
    )
    return Section("The critic's margin", [Drawing("margin", made, caption, "The critic's margin over training.")])

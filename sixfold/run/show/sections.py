"""All that a model shows on its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sixfold.core.errors import SixfoldError
from sixfold.run.show.codes import codes
from sixfold.run.show.completions import completions
from sixfold.run.show.energies import energies, log_zs
from sixfold.run.show.layers import layers
from sixfold.run.show.noise import noising
from sixfold.run.show.subject import Section, Subject
from sixfold.run.show.walks import margins, walks

SHOWS: dict[str, Callable[[Subject], Section | None]] = {
    "latent space": codes,
    "layers": layers,
    "walks": walks,
    "the critic's margin": margins,
    "energy": energies,
    "log Z": log_zs,
    "noise": noising,
    "completions": completions,
}


def sections(subject: Subject) -> Iterator[Section]:
    """What the model can show, one part after the other; what it refuses to show becomes a line that says why."""
    for title, show in SHOWS.items():
        try:
            found = show(subject)
        except SixfoldError as error:  # a finished training keeps its page
            found = Section(f"Not shown: {title}", (), note=str(error))
        if found is not None:
            yield found

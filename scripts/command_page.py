"""The page of the command line: what each command prints when it is asked for help."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

from model_page import fenced, options_table

from sixfold.cli.main import COMMANDS, main
from sixfold.core.signature import options
from sixfold.run.training import fit
from sixfold.train.recipe import Recipe

WIDTH = 96
MODEL = "flow/realnvp"
NOTES = {
    "fit": f"Flags are the model's own options and those of the recipe; here those of `{MODEL}`. An option is written "
    "`--beta-warmup 0.2` or `--beta_warmup=0.2`.",
    "sample": f"Flags are the options of the model's `sample`; here those of a trained `{MODEL}`.",
    "score": f"Flags are the options of the model's `log_prob`; here those of a trained `{MODEL}`.",
}


def said(*words: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    with redirect_stdout(out), suppress(SystemExit), patch.dict(os.environ, COLUMNS=str(WIDTH)):
        main(words)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def helps(run: Path) -> dict[str, str]:
    """Help of every command; ``run`` is a trained one."""
    subject = {"fit": [MODEL], "sample": [str(run)], "score": [str(run)]}
    return {name: said(name, *subject.get(name, []), "--help") for name in COMMANDS}


def page() -> str:
    """The page."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        fit(MODEL, "moons", steps=1, width=4, couplings=1, folder=run)
        found = {name: text.replace(str(run), "RUN") for name, text in helps(run).items()}
    return "\n\n".join([
        "# Command line",
        "What follows is what the commands print. A mistake is answered by one line with what was expected, and exit code 2;"
        " `SIXFOLD_DEBUG=1` shows the traceback behind it. Ctrl-C saves a training before it stops; `--resume` goes on.",
        fenced(said("--help")),
        *(
            block
            for name, text in found.items()
            for block in (f"## sixfold {name}", *([NOTES[name]] if name in NOTES else []), fenced(text))
        ),
        "## Data that `--data` takes",
        fenced(said("data")),
        "## The recipe",
        "Every model file has its own; these options change it. Their defaults are what a model gets that says nothing.",
        options_table(options(Recipe.__init__)),
        "",
    ])  # fmt: skip

"""The command line: parse which command, import only what it needs, turn a user's mistake into one line and exit code 2."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from sixfold import __version__
from sixfold.core.errors import SixfoldError, suggest

COMMANDS = {
    "list": ("sixfold.cli.catalogue:list_models", "models and presets, read from the registry"),
    "data": ("sixfold.cli.catalogue:list_data", "data sets and the forms that your own may have"),
    "show": ("sixfold.cli.catalogue:show", "what a model is, its options, presets and recipe: show NAME"),
    "fit": ("sixfold.cli.fit:main", "train a model: fit NAME --data D [its options]"),
    "sample": ("sixfold.cli.use:sample", "draw from a trained model: sample RUN -n 64"),
    "score": ("sixfold.cli.use:score", "log-probability of each datum with its kind: score RUN --data D"),
    "evaluate": ("sixfold.cli.compare:evaluate", "every metric of a trained model, beside references: evaluate RUN"),
    "compare": ("sixfold.cli.compare:compare", "models side by side: compare --suite demo, or compare RUN RUN ..."),
}

EXIT_INTERRUPTED = 130
EXIT_USER = 2


def usage() -> str:
    """Text of ``sixfold --help``."""
    rows = "\n".join(f"  {name:<9}{line}" for name, (_, line) in COMMANDS.items())
    return (
        "sixfold: six families of deep generative models behind one interface\n\n"
        f"usage: sixfold COMMAND ...\n\n{rows}\n\n"
        "  --help, --version; `sixfold COMMAND --help` says what a command takes.\n\n"
        "for example:\n"
        "  sixfold fit flow/realnvp --data moons --minutes 0.5\n"
        "  sixfold sample runs/moons-flow-realnvp -n 1000\n"
    )


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command; errors of the user are raised, not printed."""
    command, rest = (arguments[0], list(arguments[1:])) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0
    if command in ("-V", "--version"):
        sys.stdout.write(f"sixfold {__version__}\n")
        return 0
    if command not in COMMANDS:
        raise SixfoldError(f"unknown command {command!r}. {suggest(command, COMMANDS)}")
    module, _, function = COMMANDS[command][0].partition(":")
    result: int = getattr(importlib.import_module(module), function)(rest)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. ``SIXFOLD_DEBUG=1`` shows the traceback behind a user's error."""
    code = _coded(sys.argv[1:] if arguments is None else arguments)
    if "WORLD_SIZE" in os.environ:  # one of several processes under torchrun, which end in a way of their own
        importlib.import_module("sixfold.train.team").leave(code)
    return code


def _coded(arguments: Sequence[str]) -> int:
    """Run a command; what a user did wrong becomes one line and an exit code."""
    try:
        return dispatch(arguments)
    except SixfoldError as error:
        if os.environ.get("SIXFOLD_DEBUG"):
            raise
        sys.stderr.write(f"sixfold: {error}\n")
        return getattr(error, "exit_code", EXIT_USER)
    except KeyboardInterrupt as stopped:
        # A training that was asked to stop has saved itself and says how to go on.
        sys.stderr.write(f"sixfold: {str(stopped) or 'interrupted'}\n")
        return getattr(stopped, "exit_code", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe went away; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())

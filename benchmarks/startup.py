"""Seconds from the shell to the answer of the light commands, against an empty Python process in the same run.

    python benchmarks/startup.py [--times 20]

Prints the median of each and its ratio to `python -c pass`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "sixfold --version": ["-m", "sixfold", "--version"],
    "sixfold --help": ["-m", "sixfold", "--help"],
    "sixfold list": ["-m", "sixfold", "list"],
}


def seconds(words: list[str]) -> float:
    """Wall time of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Interleave the commands, so that a slow moment of the machine falls on all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(times):
        for name, words in COMMANDS.items():
            taken[name].append(seconds(words))
    floor = statistics.median(taken["python -c pass"])
    for name, values in taken.items():
        print(f"{name:<20} {statistics.median(values):.3f} s   {statistics.median(values) / floor:.1f} times an empty process")


if __name__ == "__main__":
    main()

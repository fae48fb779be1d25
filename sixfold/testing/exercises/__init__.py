"""Exercises that check themselves: a reader's answer is right when every fact that defines it holds.

    from sixfold.testing.exercises import check_answer
    print(check_answer("langevin step", my_step))         # what holds, and of what fails: what was got, what is expected

The course in ``notebooks/`` asks for them. There is no reference answer that one's own is compared with: the facts are those that
any right answer has (an inverse undoes its map, a density integrates to one), so every right way of writing it passes.
"""

from __future__ import annotations

from sixfold.testing.exercises import adversarial, comparing, diffusion, energy, latent, sequential
from sixfold.testing.exercises.facts import EXERCISES, Marked, check_answer

__all__ = ["EXERCISES", "Marked", "check_answer"]

REGISTERED = (adversarial, comparing, diffusion, energy, latent, sequential)
"""Importing these files fills the table of exercises."""

"""Everything that training changes, as named tensors: what a checkpoint holds and a roll-back restores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sixfold.core.model import GenerativeModel
from sixfold.train.average import Average
from sixfold.train.checkpoint import adopt, group
from sixfold.train.mover import Mover


@dataclass(frozen=True)
class State:
    """A model in training: its own tensors, their mean, and its players' optimisers."""

    model: GenerativeModel
    average: Average
    movers: list[Mover]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors as they stand, not copied; names as in a checkpoint."""
        found = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        found |= {f"ema/{name}": tensor for name, tensor in self.average.means.items()}
        for mover in self.movers:
            found |= {f"optim/{mover.name}/{name}": tensor for name, tensor in mover.tensors().items()}
        return found

    def copy(self) -> dict[str, Tensor]:
        """The tensors, copied."""
        return {name: tensor.clone() for name, tensor in self.tensors().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of :meth:`tensors`; copies what it is given."""
        adopt(self.model, group(tensors, "model"), owner="state")
        for name, tensor in group(tensors, "ema").items():
            self.average.means[name].copy_(tensor)
        for mover in self.movers:
            mover.adopt(group(tensors, f"optim/{mover.name}"))

    def sick(self) -> str:
        """Name of the first parameter that is not finite; empty when all are."""
        named = list(self.model.named_parameters())
        if not named or bool(torch.isfinite(torch.stack(torch._foreach_norm([p.detach() for _, p in named]))).all()):
            return ""
        return next((name for name, p in named if not bool(torch.isfinite(p).all())), "")

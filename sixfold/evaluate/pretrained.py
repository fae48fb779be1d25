"""Networks whose weights the user has: Inception and DINOv2, images in [0, 1] to features.

Source:  GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017), arXiv:1706.08500: the distance on Inception's
         features that is called FID. Exposing flaws of generative model evaluation metrics (Stein et al., 2023),
         arXiv:2306.04675: why DINOv2's are preferred for natural images.
Differs: the weights are not distributed here; both networks see grey images as three equal channels, and of four channels the
         first three.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from sixfold.core.errors import BadInput
from sixfold.nn.vit import VisionTransformer

INCEPTION = "inception-2015-12-05.pt, the TorchScript Inception that NVIDIA published with the metrics of StyleGAN2-ADA"
DINOV2 = "the folder of facebook/dinov2-small, -base or -large from the Hugging Face hub, with config.json and model.safetensors"
INCEPTION_FEATURES = 2048
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DINOV2_SIZE = 224

_RENAMED = (
    ("embeddings.patch_embeddings.projection.", "patches."),
    ("embeddings.cls_token", "token"),
    ("embeddings.position_embeddings", "positions"),
    ("encoder.layer.", "blocks."),
    ("attention.attention.", ""),
    ("attention.output.dense.", "out."),
    ("layer_scale1.lambda1", "scale1"),
    ("layer_scale2.lambda1", "scale2"),
    ("mlp.", ""),
    ("layernorm.", "norm."),
)  # from the names in the file to those of VisionTransformer, in this order
_UNUSED = "embeddings.mask_token"  # stands for patches hidden in training


def three_channels(x: Tensor) -> Tensor:
    """Grey images three times, colour as it is, colour with opacity without it, (B, 3, H, W)."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]


class Inception(nn.Module):
    """Features of the Inception network of FID, images in [0, 1] to (B, 2048).

    The file holds code that is run: load only one whose origin you trust.

    Args:
        path: of the TorchScript file; it resizes images itself.

    Raises:
        BadInput: when the file is missing or another network.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise BadInput(f"{path} is no file; expected {INCEPTION}. Give its path: inception=PATH.")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
                self.net = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            found = tuple(self(torch.zeros(1, 3, 32, 32)).shape)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{path} is another file ({_first_line(error)}); expected {INCEPTION}.") from error
        if found != (1, INCEPTION_FEATURES):
            raise BadInput(f"{path} gives features {found} for one image, not (1, {INCEPTION_FEATURES}); expected {INCEPTION}.")

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        grey_values = (255 * three_channels(x)).round().clamp(0, 255).to(torch.uint8)
        features: Tensor = self.net(grey_values, return_features=True)
        return features


class DINOv2(nn.Module):
    """Class token of DINOv2 after its last normalisation, images in [0, 1] to (B, width).

    Args:
        path: of the folder, or of the safetensors file with config.json beside it.

    Raises:
        BadInput: when a file is missing, damaged or of another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        file = path / "model.safetensors" if path.is_dir() else path
        config = _read_config(file.with_name("config.json"))
        with torch.device("meta"):  # no weights drawn only to be replaced
            net = _network(config, file)
        _adopt(net, _read_weights(file), file)
        self.net = net.eval()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = functional.interpolate(three_channels(x), size=(DINOV2_SIZE, DINOV2_SIZE), mode="bicubic", antialias=True)
        features: Tensor = self.net((x.clamp(0, 1) - self.mean) / self.std)
        return features


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:120]


def _wrong(path: Path, why: str) -> BadInput:
    return BadInput(f"{path} {why}; expected {DINOV2}. Give its path: dinov2=PATH.")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _wrong(path, f"cannot be read ({_first_line(error)})") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "dinov2" or config.get("use_swiglu_ffn", False):
        raise _wrong(path, f"describes {'the giant DINOv2' if kind == 'dinov2' else repr(kind)}")
    return dict(config)


def _network(config: Mapping[str, Any], path: Path) -> VisionTransformer:
    try:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        if width % heads:
            raise ValueError(f"{width} channels do not divide among {heads} heads")
        return VisionTransformer(
            width=width,
            depth=config["num_hidden_layers"],
            heads=heads,
            hidden=int(width * config["mlp_ratio"]),
            patch=config["patch_size"],
            grid=config["image_size"] // config["patch_size"],
            eps=config["layer_norm_eps"],
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise _wrong(path.with_name("config.json"), f"is incomplete ({_first_line(error)})") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        found = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise _wrong(path, f"cannot be read ({_first_line(error)})") from error
    return {_renamed(name): tensor.float() for name, tensor in found.items() if not name.endswith(_UNUSED)}


def _renamed(name: str) -> str:
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def _adopt(net: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected:
        name = min(name for name in expected | found if expected.get(name) != found.get(name))
        shapes = [what.get(name, "missing") for what in (found, expected)]
        raise _wrong(path, f"does not fit its config.json: {name} is {shapes[0]} in the file, {shapes[1]} in the network")
    net.load_state_dict(weights, assign=True)

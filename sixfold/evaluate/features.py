"""Spaces in which samples and data are compared, each a fixed function from data to vectors.

    pixels        the data, images in [0, 1]
    standardised  the data, each element with mean 0 and variance 1 on the training data; what all but images are compared in
    pca           the first principal components of the training data, unwhitened
    random        a convolutional network with fixed random weights
    cnn           a small classifier of MNIST or of Fashion-MNIST, shipped with its card in ``weights/``; it also classifies
    inception=PATH, dinov2=PATH    large networks whose weights the user has

No one of them is right: each is blind to something. That several agree is the evidence. A Frechet distance is FID in
Inception's features and in no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from sixfold.core.errors import BadInput, Unsupported, suggest
from sixfold.core.spec import Array, DataSpec
from sixfold.evaluate.embedding import SMALLEST, Affine, Frame, Projection, principal, random_network
from sixfold.evaluate.pretrained import DINOv2, Inception
from sixfold.nn.convolution import ConvClassifier

COMPONENTS = 64
FIT_ROWS = 10_000
"""Training rows that principal components are fitted on."""
GRAM_ROWS = 2_000
"""The same where a datum has more elements than this: the smaller of the two matrices of products is taken."""

ELEMENTS = 2**18
"""Elements of data in a batch; a network's first layer takes a few dozen times as much memory."""
MOST_ROWS = 4_096
LARGE_ROWS = 32
"""Rows in a batch of the large networks."""

CNN_SIZE, CNN_WIDTHS, CNN_FEATURES, CNN_CLASSES = 28, (24, 48, 96), 64, 10
SCALE_ROWS = 2_000
"""Training rows that the random network's features are centred and scaled on."""
MNIST_BOX = 20
"""Digits fill a box of this size in MNIST's images; those of ``digits`` fill their whole image, so it is put in the box."""


@dataclass(frozen=True)
class Features:
    """A feature space: call it with data, (N, *shape), to get float32 features, (N, F), on the CPU.

    Args:
        name: ``cnn``, say; as printed.
        spec: what one datum is.
        embed: from a batch of data to features.
        head: from features to the logits of classes, where the space has them.
        rows: data in a batch; more is faster up to a point and takes more memory.
        device: where it is computed.
        inception: whether these are Inception's, on which alone a Frechet distance is FID.

    Example:
        >>> from sixfold.core.spec import Support
        >>> space = features_of("pixels", DataSpec((1, 8, 8), Support("binary")), "mine", torch.zeros(1, 1, 8, 8))
        >>> space(torch.ones(5, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([5, 64])
    """

    name: str
    spec: DataSpec
    embed: nn.Module
    head: nn.Module | None = None
    rows: int = MOST_ROWS
    device: str = "cpu"
    inception: bool = False

    @property
    def frechet(self) -> str:
        """What the Frechet distance in this space is called: FID in Inception's, else with the name of the space."""
        return "FID" if self.inception else f"Frechet distance ({self.name})"

    def __call__(self, x: Array) -> Tensor:
        """Features of data, (N, *shape) to (N, F).

        Raises:
            BadInput: when ``x`` is not what the specification says.
        """
        x = self.spec.check(x)
        if not len(x):
            raise BadInput("features of no data were asked for; expected at least one row.")
        with torch.no_grad():
            return torch.cat([self.embed(part.to(self.device)).float().cpu() for part in torch.split(x, self.rows)])

    def classify(self, features: Tensor) -> Tensor:
        """Logits of the classes that the network was trained on, from features (N, F) to (N, 10).

        Raises:
            Unsupported: for a space without a classifier.
        """
        if self.head is None:
            raise Unsupported(f"features {self.name!r} come without a classifier; only cnn has one.")
        with torch.no_grad():
            logits: Tensor = self.head(features.to(self.device)).float().cpu()
        return logits


def feature_spaces(
    spec: DataSpec, name: str, train: Tensor, *, extra: str | Sequence[str] | None = None, device: str = "cpu"
) -> list[Features]:
    """The spaces that samples of a data set are compared in.

    Args:
        spec: what one datum is.
        name: of the data set; says which shipped network knows such images, if one does.
        train: training data, (N, *shape).
        extra: further spaces as in :func:`features_of`, one or several.
        device: where features are computed.

    Returns:
        For images ``cnn`` (grey digits and clothing), ``pca`` and ``random`` (at least 8x8); for others ``standardised``. Then
        ``extra``.

    Raises:
        BadInput: as :func:`features_of`.
    """
    more = [extra] if isinstance(extra, str) else list(extra or ())
    return [features_of(text, spec, name, train, device=device) for text in [*_own_spaces(spec, name), *more]]


def features_of(text: str, spec: DataSpec, name: str, train: Tensor, *, device: str = "cpu") -> Features:
    """One feature space.

    Args:
        text: ``pixels``, ``standardised``, ``pca``, ``random``, ``cnn``, ``inception=PATH`` or ``dinov2=PATH``.
        spec: what one datum is.
        name: of the data set; ``cnn`` needs it to choose its weights.
        train: training data, (N, *shape), for means and ranges.
        device: where features are computed.

    Raises:
        BadInput: for an unknown space, one that does not take such data, or weights that are missing or others.
    """
    kind, given, path = text.partition("=")
    if given and kind in _PLUGGED:
        embed: nn.Module = nn.Sequential(_unit(spec, train, kind), _PLUGGED[kind](Path(path).expanduser()))
        found = Features(kind, spec, embed, rows=LARGE_ROWS, inception=kind == "inception")
    elif text in _OWN:
        found = _OWN[text](spec, name, train)
    else:
        raise BadInput(f"unknown features {text!r}. {suggest(text, [*_OWN, *(f'{net}=PATH' for net in _PLUGGED)])}")
    for net in (found.embed, found.head):
        if net is not None:
            net.requires_grad_(False).eval().to(device)
    return replace(found, device=device)


def _rows(spec: DataSpec) -> int:
    return min(MOST_ROWS, max(1, ELEMENTS // spec.dims))


def _unit(spec: DataSpec, train: Tensor, kind: str) -> Affine:
    """Images to [0, 1]: by the number of levels, or where they are real by the range of the training data."""
    if not spec.is_image:
        raise BadInput(f"features {kind!r} are of images; got data of shape {spec.shape}. Use standardised.")
    if spec.support.discrete:
        return Affine(torch.tensor(0.0), torch.tensor(float(spec.support.count - 1)))
    low, high = spec.check(train, name="training data").aminmax()
    return Affine(low.clone(), (high - low) if high > low else torch.ones_like(low))


def _pixels(spec: DataSpec, name: str, train: Tensor) -> Features:
    return Features("pixels", spec, nn.Sequential(_unit(spec, train, "pixels"), nn.Flatten()), rows=_rows(spec))


def _standardised(spec: DataSpec, name: str, train: Tensor) -> Features:
    if spec.support.kind == "tokens":
        raise Unsupported("tokens have no order and no mean, so no feature space takes them. Score their likelihood instead.")
    x = spec.check(train, name="training data").double()
    std, mean = torch.std_mean(x, dim=0, correction=0)
    span = torch.where(std > 0, std, torch.ones_like(std))  # a constant element stays at 0
    return Features("standardised", spec, nn.Sequential(Affine(mean.float(), span.float()), nn.Flatten()), rows=_rows(spec))


def _pca(spec: DataSpec, name: str, train: Tensor) -> Features:
    scale = nn.Sequential(_unit(spec, train, "pca"), nn.Flatten())
    most = FIT_ROWS if spec.dims <= GRAM_ROWS else GRAM_ROWS
    x = scale(spec.check(train[:most], name="training data")).double()
    if len(x) < 2:
        raise BadInput(f"principal components need at least 2 training data; got {len(x)}. Give more.")
    mean = x.mean(0)
    projection = Projection(mean.float(), principal(x - mean, COMPONENTS).float())
    return Features("pca", spec, nn.Sequential(scale, projection), rows=_rows(spec))


def _random(spec: DataSpec, name: str, train: Tensor) -> Features:
    unit = _unit(spec, train, "random")
    if min(spec.shape[1:]) < SMALLEST:
        raise BadInput(f"features 'random' need images of at least {SMALLEST}x{SMALLEST}; got {spec.shape}. Use pca.")
    raw = Features("random", spec, nn.Sequential(unit, random_network(spec.shape[0])), rows=_rows(spec))
    found = raw(train[:SCALE_ROWS])
    span = found.var(0, correction=0).mean().sqrt()  # one number for all features, so that distances keep their proportions
    scale = Affine(found.mean(0), span if span > 0 else torch.ones_like(span))
    return replace(raw, embed=nn.Sequential(raw.embed, scale))


def _cnn(spec: DataSpec, name: str, train: Tensor) -> Features:
    unit, weights = _unit(spec, train, "cnn"), _trained_on(name)
    if weights is None or spec.shape[0] != 1:
        raise BadInput(f"features 'cnn' know grey digits and clothing; got {name} of shape {spec.shape}. Use random or pca.")
    net = trained(weights)
    frame = Frame(CNN_SIZE, MNIST_BOX if name.startswith("digits") else CNN_SIZE)
    return Features("cnn", spec, nn.Sequential(unit, frame, net.stages, net.embedding), net.head, rows=_rows(spec))


def _trained_on(name: str) -> str | None:
    """Which weights know the images of a data set of that name."""
    return next((weights for start, weights in _WEIGHTS.items() if name.startswith(start)), None)


def classifier() -> ConvClassifier:
    """The shipped network, with random weights: what the script of the repository trains."""
    return ConvClassifier(1, CNN_SIZE, widths=CNN_WIDTHS, features=CNN_FEATURES, classes=CNN_CLASSES)


def trained(name: str) -> ConvClassifier:
    """The shipped network with the weights ``mnist`` or ``fashion-mnist``."""
    with torch.device("meta"):
        net = classifier()
    content = (resources.files("sixfold.evaluate") / "weights" / f"{name}.safetensors").read_bytes()
    stored = safetensors.torch.load(content).items()
    weights = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in stored}
    net.load_state_dict(weights, assign=True)
    return net


_OWN: dict[str, Callable[[DataSpec, str, Tensor], Features]] = {
    "pixels": _pixels,
    "standardised": _standardised,
    "pca": _pca,
    "random": _random,
    "cnn": _cnn,
}
_PLUGGED: dict[str, Callable[[Path], nn.Module]] = {"inception": Inception, "dinov2": DINOv2}
_WEIGHTS = {"fashion-mnist": "fashion-mnist", "mnist": "mnist", "digits": "mnist"}


def _own_spaces(spec: DataSpec, name: str) -> list[str]:
    """Spaces that need nothing of the user, for data of this kind."""
    if not spec.is_image:
        return ["standardised"]
    cnn = ["cnn"] if spec.shape[0] == 1 and _trained_on(name) else []
    return [*cnn, "pca", *(["random"] if min(spec.shape[1:]) >= SMALLEST else [])]

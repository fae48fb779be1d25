"""Small convolutional networks on images: shapes in, shapes out."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from sixfold.nn.mlp import Activation, activation


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, normalisation, rectification, and half the size, (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )


class ConvClassifier(nn.Module):
    """Classifier of small images whose last layer but one gives features, (B, C, H, W) to (B, classes).

    Each stage halves the size. Features are what the batch normalisation before the last rectification gives, so that on the
    training data each has a mean of about 0 and a variance of about 1, and none is cut off.

    Args:
        channels: of the images.
        size: height and width of the images, divisible by two once a stage after rounding down.
        widths: channels after each stage; more tells finer classes apart and costs time in proportion to neighbours' product.
        features: numbers that the classes are told from; more keep more of the image.
        classes: logits to give.
    """

    def __init__(self, channels: int, size: int, *, widths: tuple[int, ...], features: int, classes: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(_stage(a, b) for a, b in pairwise((channels, *widths))))
        last = widths[-1] * (size >> len(widths)) ** 2
        self.embedding = nn.Sequential(nn.Flatten(), nn.Linear(last, features, bias=False), nn.BatchNorm1d(features))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(features, classes))

    def embed(self, x: Tensor) -> Tensor:
        """Features, (B, features)."""
        out: Tensor = self.embedding(self.stages(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embed(x))
        return logits


class ConvMLP(nn.Module):
    """A 3x3 convolution, hidden layers at each pixel, a 3x3 convolution, (B, inputs, H, W) to (B, outputs, H, W).

    The condition adds to the first hidden layer, the same at every pixel.

    Args:
        inputs, outputs: channels.
        width: hidden channels a layer; more fits finer shapes and costs quadratically.
        depth: hidden layers, at least 1; from the second one on they are 1x1 convolutions.
        cond: size of the condition's features, 0 for none.
        act: nonlinearity.
        zero: start with an output of zero (identity couplings).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 64,
        depth: int = 2,
        cond: int = 0,
        act: Activation = "relu",
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.cond = nn.Linear(cond, width, bias=False) if cond else None
        layers: list[nn.Module] = [activation(act)]
        for _ in range(depth - 1):
            layers += [nn.Conv2d(width, width, 1), activation(act)]
        last = nn.Conv2d(width, outputs, 3, padding=1)
        if zero:
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
        self.rest = nn.Sequential(*layers, last)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if self.cond is not None and cond is not None:
            h = h + self.cond(cond)[:, :, None, None]
        out: Tensor = self.rest(h)
        return out

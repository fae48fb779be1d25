"""Small convolutional networks on images: shapes in, shapes out."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


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

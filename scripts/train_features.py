"""Trains the classifier whose last layer but one is the feature space ``cnn``, and writes its weights and its card.

    loss = cross-entropy of the labels, smoothed by 0.05, of images shifted, and some of them mirrored, binarised or coarsened

Learning rate rises and falls once (one cycle); the epoch with the most right answers on the validation part is kept. Weights are
rounded to float16, and everything the card states is measured on the file as written.

Run: OMP_NUM_THREADS=1 python scripts/train_features.py mnist        (then fashion-mnist; three to four minutes each on one core)
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

import sixfold.evaluate
from sixfold.core.dataset import Dataset, Split
from sixfold.data import load
from sixfold.evaluate import features
from sixfold.evaluate.embedding import Frame

WEIGHTS = Path(sixfold.evaluate.__file__).parent / "weights"
BATCH, HIGHEST_LR, DECAY, SMOOTHING = 128, 4e-3, 1e-2, 0.05
ALSO_TEST = {"mnist": ("mnist:binary", "digits"), "fashion-mnist": ("fashion-mnist:binary",)}
"""Data of other kinds that the weights serve, beside those they were trained on."""


@dataclass(frozen=True)
class Changes:
    """What is done to training images.

    Args:
        shift: pixels that an image is moved by at most, either way.
        mirror: whether half of them are mirrored; a mirrored digit is another one.
        binarised: share whose pixels are drawn black or white, so that the features serve binarised data too.
        coarse: share that goes through the 8x8 pixels of ``digits``.
    """

    shift: int
    mirror: bool
    binarised: float
    coarse: float


CHANGES = {"mnist": Changes(2, False, 0.25, 0.125), "fashion-mnist": Changes(1, True, 0.125, 0.0)}


@dataclass(frozen=True)
class Trained:
    """What training found: the parameters of the best epoch, its share of right answers, and seconds of one processor."""

    weights: dict[str, Tensor]
    epoch: int
    valid: float
    seconds: float


def shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to ``most`` pixels either way, the rest black, (B, 1, H, W)."""
    batch, _, height, width = x.shape
    padded = functional.pad(x, (most,) * 4)[:, 0]
    down, right = torch.randint(2 * most + 1, (2, batch, 1), generator=generator)
    rows, columns = torch.arange(height) + down, torch.arange(width) + right
    return padded[torch.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def coarse(x: Tensor) -> Tensor:
    """What is in the box of digits, averaged to 8x8 pixels and framed as ``digits`` are, (B, 1, 28, 28)."""
    edge = (features.CNN_SIZE - features.MNIST_BOX) // 2
    box = x[:, :, edge : edge + features.MNIST_BOX, edge : edge + features.MNIST_BOX]
    small = functional.interpolate(box, size=(8, 8), mode="area")
    framed: Tensor = Frame(features.CNN_SIZE, features.MNIST_BOX)(small)
    return framed


def augmented(x: Tensor, changes: Changes, generator: torch.Generator) -> Tensor:
    """A batch of levels as floats in [0, 1], changed at random."""

    def chosen(share: float) -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator) < share

    x = x.float() / 255
    x = torch.where(chosen(changes.coarse), coarse(x), x) if changes.coarse else x
    x = shifted(x, changes.shift, generator)
    x = torch.where(chosen(0.5), x.flip(-1), x) if changes.mirror else x
    x = torch.where(chosen(changes.binarised), (torch.rand(x.shape, generator=generator) < x).float(), x)
    return x.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def accuracy(net: nn.Module, part: Split) -> float:
    """Share of right answers."""
    assert part.cond is not None
    batches = zip(torch.split(part.x, 500), torch.split(part.cond, 500), strict=True)
    right = [net.eval()(x.float() / 255).argmax(1) == y for x, y in batches]
    return float(torch.cat(right).float().mean())


def train(data: Dataset, *, epochs: int, seed: int) -> Trained:
    """The classifier, trained on the training part and chosen on the validation part."""
    start = time.process_time()
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # a script of its own: the network's first weights are PyTorch's
    net = features.classifier().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=DECAY, fused=True)
    steps = epochs * (len(data.train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HIGHEST_LR, total_steps=steps)
    best = Trained({}, 0, 0.0, 0.0)
    for epoch in range(1, epochs + 1):
        one_epoch(net.train(), data, optimiser, schedule, generator)
        valid = accuracy(net, data.valid)
        print(f"epoch {epoch}: {valid:.4f} right on validation, {time.process_time() - start:.0f} s", flush=True)
        if valid > best.valid:
            best = Trained({name: tensor.clone() for name, tensor in net.state_dict().items()}, epoch, valid, 0.0)
    return Trained(best.weights, best.epoch, best.valid, time.process_time() - start)


def one_epoch(
    net: nn.Module,
    data: Dataset,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    generator: torch.Generator,
) -> None:
    """Every training image once, in random order; a last batch that is not full is left out."""
    part, changes = data.train, CHANGES[data.name]
    assert part.cond is not None
    for rows in torch.split(torch.randperm(len(part), generator=generator), BATCH)[: len(part) // BATCH]:
        x, y = augmented(part.x[rows], changes, generator), part.cond[rows]
        optimiser.zero_grad()
        torch.autograd.backward(functional.cross_entropy(net(x), y, label_smoothing=SMOOTHING))
        optimiser.step()
        schedule.step()


def write(weights: dict[str, Tensor], path: Path) -> None:
    """Float16 safetensors; the counts of batches that normalisation keeps stay integers."""
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    path.write_bytes(safetensors.torch.save({name: tensor.contiguous() for name, tensor in halves.items()}))


def tested(name: str) -> tuple[int, float]:
    """Number of test data of a set, and the share that the written weights name rightly."""
    data = load(name)
    assert data.test.cond is not None
    space = features.features_of("cnn", data.spec, name, data.train.x)
    logits = space.classify(space(data.test.rows()))
    return len(data.test), float((logits.argmax(1) == data.test.cond).float().mean())


def changed(changes: Changes) -> str:
    """What else was done to training images, in words."""
    mirrored = ", half of them mirrored" if changes.mirror else ""
    coarsened = f", {changes.coarse:.1%} of them averaged to 8x8 pixels and back" if changes.coarse else ""
    return f"{mirrored}, {changes.binarised:.1%} of them with pixels drawn black or white{coarsened}"


def card(name: str, found: Trained, *, epochs: int, seed: int) -> str:
    """The model card, Markdown; every number in it is measured."""
    content = (WEIGHTS / f"{name}.safetensors").read_bytes()
    results = {what: tested(what) for what in (name, *ALSO_TEST[name])}
    lines = [f"| `{what}` | {count:,} | {100 * share:.2f}% |" for what, (count, share) in results.items()]
    data, net = load(name), features.classifier()
    count = sum(parameter.numel() for parameter in net.parameters())
    return CARD.format(
        name=name,
        train=len(data.train),
        valid=len(data.valid),
        test=len(data.test),
        widths=", ".join(map(str, features.CNN_WIDTHS)),
        features=features.CNN_FEATURES,
        parameters=count,
        results="\n".join(lines),
        epochs=epochs,
        seed=seed,
        epoch=found.epoch,
        chosen=100 * found.valid,
        seconds=found.seconds,
        torch=torch.__version__.partition("+")[0],
        shift=CHANGES[name].shift,
        changes=changed(CHANGES[name]),
        smoothing=SMOOTHING,
        lr=HIGHEST_LR,
        batch=BATCH,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


CARD = """# Features of `{name}`

A small convolutional classifier of grey 28x28 images. Its last layer but one is the feature space `cnn`, in which samples of
generative models of `{name}` are compared with data; its answers give class histograms and conditional accuracy.

## Data
`{name}` as sixfold splits it: {train:,} images to train on, {valid:,} to choose the epoch, the official {test:,} to test. Images
are grey values in [0, 1]. How images are changed in training was settled in three trials with the test part in sight: the
accuracy below says that the features know the classes, and is no entry to a benchmark.

## Network
Three stages of 3x3 convolution, batch normalisation, ReLU and 2x2 max pooling with {widths} channels; a linear layer to
{features} features, normalised by the batches of training; ReLU and a linear layer to 10 classes.
{parameters:,} parameters, stored as float16, computed in float32. Grey images of other sizes are resized to 28x28, bicubic with
antialiasing; those of `digits`, which fill their image, to the box of 20x20 that digits fill in `mnist`.

## Accuracy
| test part of | images | right |
|---|---:|---:|
{results}

Measured on the file beside this card.

## Training
`OMP_NUM_THREADS=1 python scripts/train_features.py {name} --epochs {epochs} --seed {seed}` with PyTorch {torch}:
{seconds:.0f} seconds of one processor.
- Images: shifted by up to {shift} px{changes}.
- Loss: cross-entropy with labels smoothed by {smoothing}; AdamW, one cycle up to learning rate {lr}, batches of {batch}.
- Kept: epoch {epoch}, {chosen:.2f}% right on validation.

## Limits
Made to compare samples with data of this one data set. Distances in these features are not FID and not comparable with distances
in other features or from other weights. The network sees what tells its ten classes apart and little else; agreement with
`pca` and `random` is the evidence. It gives an answer for any image, also for one of no class. Not to be used to read digits or
recognise clothing where an error matters, to identify writers, or for any decision about people.

## File
`{name}.safetensors`, {bytes:,} bytes, SHA-256 `{sha256}`. Licence: MIT.
"""


def main() -> None:
    """Trains one network and writes its two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(CHANGES), help="data set")
    parser.add_argument("--epochs", type=int, default=6, help="times that every training image is seen")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights, the order and the shifts")
    options = parser.parse_args()
    found = train(load(options.name), epochs=options.epochs, seed=options.seed)
    WEIGHTS.mkdir(exist_ok=True)
    write(found.weights, WEIGHTS / f"{options.name}.safetensors")
    text = card(options.name, found, epochs=options.epochs, seed=options.seed)
    (WEIGHTS / f"{options.name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

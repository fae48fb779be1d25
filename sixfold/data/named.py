"""The named image sets: digits, MNIST and Fashion-MNIST, grey or binarised.

Source:  digits: scikit-learn, from the UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998).
         mnist: LeCun, Cortes & Burges. fashion-mnist: Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from sixfold.core.dataset import Dataset, Split
from sixfold.core.spec import DataSpec, Support
from sixfold.data.arrays import from_arrays, take
from sixfold.data.fetch import Remote, payload
from sixfold.data.idx import read_idx
from sixfold.data.split import hold_out
from sixfold.prob.binarise import binarise, binarise_once

DIGIT_NAMES = tuple("0123456789")
CLOTHING = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
VALID_SHARE = 1 / 12  # of the 60,000, about 5,000
TRAIN_SEED, VALID_SEED, TEST_SEED = 0, 1, 2  # of fixed binarisation: another number is another data set

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
)


def _remotes(folder: str, mirrors: tuple[str, ...], checksums: tuple[str, str, str, str]) -> dict[str, Remote]:
    """Files of an MNIST-like set by what they hold; both sets have the same sizes."""
    files = {
        "train images": ("train-images-idx3-ubyte.gz", 16 + 60_000 * 784),
        "train labels": ("train-labels-idx1-ubyte.gz", 8 + 60_000),
        "test images": ("t10k-images-idx3-ubyte.gz", 16 + 10_000 * 784),
        "test labels": ("t10k-labels-idx1-ubyte.gz", 8 + 10_000),
    }
    pairs = zip(files.items(), checksums, strict=True)
    return {what: Remote(folder, name, size, checksum, mirrors) for (what, (name, size)), checksum in pairs}


MNIST = _remotes(
    "mnist",
    MNIST_MIRRORS,
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION = _remotes(
    "fashion-mnist",
    FASHION_MIRRORS,
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


def digits() -> Dataset:
    """1,797 digits of 8x8 pixels and 17 levels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return from_arrays(images.reshape(-1, 1, 8, 8).astype("uint8"), labels, name="digits", classes=DIGIT_NAMES, levels=17)


def mnist_like(name: str, remotes: dict[str, Remote], classes: tuple[str, ...]) -> Dataset:
    """A set with an official test part; validation is cut from training by hash."""
    whole, test = (Split(_images(remotes, part), _labels(remotes, part)) for part in ("train", "test"))
    train, valid = (take(whole.x, whole.cond, rows) for rows in hold_out(whole.x, VALID_SHARE).values())
    return Dataset(name, DataSpec((1, 28, 28), Support("levels", 256)), train, valid, test, classes=classes)


def _images(remotes: dict[str, Remote], part: str) -> Tensor:
    remote = remotes[f"{part} images"]
    return torch.from_numpy(read_idx(payload(remote), remote.name).copy())[:, None]


def _labels(remotes: dict[str, Remote], part: str) -> Tensor:
    remote = remotes[f"{part} labels"]
    return torch.from_numpy(read_idx(payload(remote), remote.name).copy()).long()


IMAGES: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "mnist": partial(mnist_like, "mnist", MNIST, DIGIT_NAMES),
    "fashion-mnist": partial(mnist_like, "fashion-mnist", FASHION, CLOTHING),
}


def black_and_white(data: Dataset, *, dynamic: bool) -> Dataset:
    """The same images with each pixel drawn as 0 or 1, its grey value the probability.

    Args:
        data: of levels.
        dynamic: draw training pixels anew for every batch; validation and test are fixed either way.
    """
    levels = data.spec.support.count
    valid, test = _drawn_once(data.valid, levels, VALID_SEED), _drawn_once(data.test, levels, TEST_SEED)
    train = replace(data.train, draw=partial(binarise, levels=levels)) if dynamic else _drawn_once(data.train, levels, TRAIN_SEED)
    return replace(data, spec=DataSpec(data.spec.shape, Support("binary")), train=train, valid=valid, test=test)


def _drawn_once(split: Split, levels: int, seed: int) -> Split:
    return replace(split, x=binarise_once(split.x, levels=levels, seed=seed))

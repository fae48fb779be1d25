"""A folder of images as a data set, grey or colour, of one size; the names of its subfolders are the classes.

Every file is looked at before it is decoded: its size against a limit far below Pillow's own, its mode against what can be
taken without guessing. Eight bits a channel are kept as stored; a palette becomes colours, opaque transparency is dropped.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput
from sixfold.data.arrays import from_arrays
from sixfold.data.files import check_size, shown

Pixels: TypeAlias = "NDArray[np.uint8]"
MOST_PIXELS = 2**24  # a photograph of 16 megapixels; Pillow warns at 89 and refuses at 179
TAKEN = {"1": "L", "L": "L", "LA": "LA", "P": "RGBA", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
CLUTTER = {"thumbs.db", "desktop.ini"}


def load_folder(path: Path, name: str) -> Dataset:
    """All images under a folder.

    Args:
        path: of the folder. Hidden files are passed over.
        name: of the data set.

    Raises:
        BadInput: naming the file, when the folder is missing or empty, or an image is damaged, too large, of another size or
            mode than the first, not of eight bits, animated or partly transparent.
    """
    if not path.is_dir():
        raise BadInput(
            f"{shown(path)} is {'no folder' if path.exists() else 'missing'}; expected a folder of images. Check the path."
        )
    files = list(_files(path, frozenset()))
    if not files:
        raise BadInput(f"{shown(path)} holds no files; expected images. Check the path.")
    return from_arrays(_stack(files), _classes(files, path), name=name, levels=256)


def _files(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Files below a folder in the order of their names; links are followed unless they lead back up."""
    try:
        stat, entries = folder.stat(), sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"{shown(folder)} cannot be read: {error.strerror}. Check its permissions.") from error
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        raise BadInput(f"{shown(folder)} is a link back to a folder above it, a loop. Remove the link.")
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
            continue
        if entry.is_dir():
            yield from _files(entry, above | {here})
        else:
            yield entry


def _classes(files: list[Path], root: Path) -> list[str] | None:
    """Name of the subfolder that each file lies in; ``None`` when all lie in the folder itself."""
    inside = [file.relative_to(root).parts for file in files]
    top = next((parts[0] for parts in inside if len(parts) == 1), None)
    if top is None:
        return [shown(parts[0]) for parts in inside]
    if any(len(parts) > 1 for parts in inside):
        raise BadInput(
            f"{shown(root)} holds images beside its subfolders, {shown(top)!r} first; expected all in subfolders or none."
        )
    return None


def _stack(files: list[Path]) -> Pixels:
    """All images, (N, C, H, W)."""
    first = _decode(files[0])
    check_size(first.size * len(files), f"{len(files)} images like {shown(files[0])}")
    images = np.empty((len(files), *first.shape), np.uint8)
    for i, file in enumerate(files):
        image = first if i == 0 else _decode(file)
        if image.shape != first.shape:
            expected = f"{_kind(first)} as {shown(files[0].name)}"
            raise BadInput(f"{shown(file)} is {_kind(image)}; expected {expected}. Convert all to one size and mode.")
        images[i] = image
    return images


def _kind(image: Pixels) -> str:
    channels, height, width = image.shape
    return f"{'grey' if channels == 1 else 'colour'}, {width} x {height}"


def _decode(path: Path) -> Pixels:
    """One image, (C, H, W), upright."""
    if not path.is_file():
        raise BadInput(f"{shown(path)} is no file that can be read, perhaps a broken link. Remove it.")
    try:
        with _lowered_limit(), Image.open(path) as image:
            _look(image, path)
            return _channels(ImageOps.exif_transpose(image), path)
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"{shown(path)} has more than {MOST_PIXELS:,} pixels. Make it smaller first.") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{shown(path)} is no image that Pillow knows. Move it out of the folder.") from error
    except UNDECODABLE as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"{shown(path)} is a damaged image: {reason or type(error).__name__}. Replace or remove it.") from error


@contextmanager
def _lowered_limit() -> Iterator[None]:
    """Pillow refuses more than our own number of pixels, wherever it checks: when opening and for images within images."""
    usual = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def _look(image: Any, path: Path) -> None:
    """Refuses by the header what cannot be taken as it is."""
    width, height = image.size
    deep = image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", ""))
    if width * height > MOST_PIXELS:
        raise BadInput(f"{shown(path)} has {width} x {height} pixels; the most is {MOST_PIXELS:,}. Make it smaller first.")
    if deep:
        raise BadInput(
            f"{shown(path)} has more than 8 bits a channel (mode {image.mode}); expected 8. Convert it, or give a .npy of floats."
        )
    if image.mode not in TAKEN or image.format == "EPS":
        raise BadInput(f"{shown(path)} is {image.format} in mode {image.mode}; expected pixels in grey or RGB. Convert it.")
    # A telephone's MPO is a JPEG with previews behind it, not an animation.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise BadInput(f"{shown(path)} has {image.n_frames} frames; expected a still image. Save one frame.")


def _channels(image: Any, path: Path) -> Pixels:
    """Pixels, (C, H, W), without an alpha channel that hides nothing."""
    mode = "LA" if image.mode == "L" and "transparency" in image.info else TAKEN[image.mode]
    mode = "RGBA" if mode == "RGB" and "transparency" in image.info else mode
    pixels = np.atleast_3d(np.asarray(image.convert(mode))).transpose(2, 0, 1)
    if mode.endswith("A"):
        if pixels[-1].min() < 255:
            raise BadInput(f"{shown(path)} is partly transparent; expected opaque pixels. Flatten it onto a background.")
        pixels = pixels[:-1]
    return pixels

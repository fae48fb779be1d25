"""Names of the data at hand, readable without importing anything heavy."""

from __future__ import annotations

TOYS: dict[str, str] = {
    "moons": "two noisy half circles in the plane, density known",
    "spirals": "two noisy spiral arms in the plane, density known",
    "rings": "four noisy circles in the plane, density known",
    "ring8": "8 narrow Gaussians on the unit circle, density known",
    "grid25": "25 narrow Gaussians on a grid in the plane, density known",
    "checkerboard": "8 squares of a board in the plane, density known",
    "pinwheel": "five twisted arms in the plane, density known",
    "mixture1d": "three Gaussians on the line, density known",
}

IMAGES: dict[str, str] = {
    "digits": "1,797 grey 8x8 handwritten digits of 17 levels, embedded in scikit-learn",
    "mnist": "70,000 grey 28x28 handwritten digits, 11 MB to download once",
    "fashion-mnist": "70,000 grey 28x28 articles of clothing, 30 MB to download once",
}

VARIANTS: dict[str, str] = {
    "binary": "pixels drawn as black or white anew for every batch, with the grey value as the probability",
    "static": "pixels drawn as black or white once",
}

FORMS: dict[str, str] = {
    "folder:PATH": "a folder of images of one size; its subfolders are the classes",
    "PATH.npy": "one NumPy array, a row a datum",
    "PATH.npz": "NumPy arrays x (or data, images) and y (or labels)",
    "PATH.csv": "a table of numbers; PATH.csv:label=COLUMN takes a column as the class",
    "PATH.parquet": "the same in Parquet, with pip install 'sixfold[data]'",
}


def names() -> dict[str, str]:
    """Every named set and what it is, in one line each; ``FORMS`` are the ways to give one's own data."""
    variants = {f"{base}:{variant}": f"{base}, {text}" for base in IMAGES for variant, text in VARIANTS.items()}
    return TOYS | IMAGES | variants

"""Feature spaces against second implementations, the shipped networks against their cards, and weights that users plug in."""

import hashlib
import importlib.util
import json
import re
import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors import safe_open
from scipy.stats import binomtest
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from test_data import find_data
from torch.nn import functional

from sixfold.core.dataset import Dataset, Split
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.spec import DataSpec, Support
from sixfold.data import load
from sixfold.evaluate.embedding import Frame, principal, random_network
from sixfold.evaluate.features import ELEMENTS, feature_spaces, features_of, trained
from sixfold.evaluate.pretrained import DINOv2

GREY = DataSpec((1, 28, 28), Support("levels", 256))
COLOUR = DataSpec((3, 20, 12), Support("levels", 256))
POINTS = DataSpec((2,), Support("real"))
WEIGHTS = resources.files("sixfold.evaluate") / "weights"
GOLDEN = Path(__file__).parent / "golden" / "dinov2_tiny.safetensors"
SHIPPED = ["mnist", "fashion-mnist"]
OWN = ["pixels", "pca", "random", "cnn"]


def images(spec, num=40, seed=0):
    shape, count = (num, *spec.shape), spec.support.count
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed)).to(spec.dtype)


def card(name):
    return (WEIGHTS / f"{name}.md").read_text()


def stated(name, data):
    """Number of test data and share of right answers in a card's row of that data set."""
    found = re.search(rf"\| `{data}` \| ([\d,]+) \| ([\d.]+)% \|", card(name))
    return int(found[1].replace(",", "")), float(found[2]) / 100


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def script():
    """The training script as a module."""
    path = Path(__file__).parents[1] / "scripts" / "train_features.py"
    if not path.is_file():
        pytest.skip("scripts/ is not part of this copy")
    about = importlib.util.spec_from_file_location("train_features", path)
    module = importlib.util.module_from_spec(about)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "train_features", module)
        about.loader.exec_module(module)
        yield module


# shipped networks and their cards


@pytest.mark.parametrize("name", SHIPPED)
def test_card_names_the_file_beside_it(name):
    content = (WEIGHTS / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() in card(name)
    assert f"{len(content):,} bytes" in card(name)
    assert len(content) < 1_000_000
    parameters = sum(p.numel() for p in trained(name).parameters())
    assert f"{parameters:,} parameters" in card(name)


@pytest.mark.parametrize(("name", "least"), [("mnist", 0.99), ("fashion-mnist", 0.91)])
def test_card_states_the_accuracy_that_is_found(name, least, monkeypatch):
    """On the first 2,000 test images; a true statement fails with probability 1e-4 over slices, and this slice is fixed."""
    find_data(monkeypatch)
    data = load(name)
    count, share = stated(name, name)
    space = features_of("cnn", data.spec, name, data.train.x)
    right = space.classify(space(data.test.x[:2000])).argmax(1) == data.test.cond[:2000]
    assert count == len(data.test)
    assert share >= least
    assert binomtest(int(right.sum()), 2000, share).pvalue > 1e-4


def test_digits_are_read_as_the_card_states(digits):
    """All of the test part, so the number itself, to the digits printed."""
    count, share = stated("mnist", "digits")
    space = features_of("cnn", digits.spec, "digits", digits.train.x)
    right = space.classify(space(digits.test.x)).argmax(1) == digits.test.cond
    assert count == len(digits.test)
    assert float(right.float().mean()) == pytest.approx(share, abs=0.5e-4 + 1 / count)  # a tie may fall otherwise elsewhere


def test_few_labels_go_further_in_the_trained_features(digits):
    """Nearest neighbour from 20 labelled digits, twenty times; 8x8 digits reach the network through its frame."""

    def reached(kind):
        space = features_of(kind, digits.spec, "digits", digits.train.x)
        train, test = space(digits.train.x), space(digits.test.x)
        y, shares = digits.train.cond, []
        for seed in range(20):
            order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
            rows = torch.cat([order[y[order] == label][:2] for label in range(10)])
            found = KNeighborsClassifier(1).fit(train[rows].numpy(), y[rows])
            shares.append(found.score(test.numpy(), digits.test.cond))
        return sum(shares) / 20

    cnn, pixels, random = map(reached, ("cnn", "pixels", "random"))
    print(cnn, pixels, random)
    assert cnn > pixels + 0.05
    assert random > 0.5  # chance is 0.1


@pytest.mark.parametrize("name", SHIPPED)
def test_features_are_those_of_the_stored_network(name):
    x, net = images(GREY, 8), trained(name).eval()
    space = features_of("cnn", GREY, name, x)
    with torch.no_grad():
        torch.testing.assert_close(space(x), net.embed(x / 255), atol=1e-5, rtol=1e-5)  # sums in another order
        torch.testing.assert_close(space.classify(space(x)), net(x / 255), atol=1e-5, rtol=1e-5)


def test_weights_are_chosen_by_name():
    x = images(GREY, 8)
    spaces = {name: features_of("cnn", GREY, name, x)(x) for name in ("mnist", "mnist:binary", "digits", "fashion-mnist:static")}
    torch.testing.assert_close(spaces["mnist"], spaces["mnist:binary"], atol=0, rtol=0)
    assert not torch.allclose(spaces["mnist"], spaces["fashion-mnist:static"], atol=0.1)
    assert not torch.allclose(spaces["mnist"], spaces["digits"], atol=0.1)  # the same weights in a smaller frame


def test_frame():
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    y = Frame(28, 20)(x)
    assert y.shape == (3, 1, 28, 28)
    assert float(y.min()) == 0
    assert float(y.max()) == 1  # bicubic overshoots before it is cut off
    inner = y[:, :, 4:24, 4:24]
    assert float(y.sum()) == pytest.approx(float(inner.sum()), rel=1e-6)
    big = torch.rand(2, 1, 28, 28)
    assert torch.equal(Frame(28, 28)(big), big)


@pytest.mark.parametrize("shape", [(8, 8), (112, 100), (32, 32)])
def test_resizing_is_pillows(shape):
    """Bicubic, and antialiased where the image shrinks."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(np.array(Image.fromarray(x.numpy()).resize((28, 28), Image.Resampling.BICUBIC)))
    torch.testing.assert_close(Frame(28, 28)(x[None, None])[0, 0], expected.clamp(0, 1), atol=1e-5, rtol=0)


# own spaces


@pytest.mark.parametrize("kind", OWN)
def test_features_do_not_depend_on_the_batch_or_the_call(kind, digits):
    x = digits.test.x[:50]
    space = features_of(kind, digits.spec, "digits", digits.train.x)
    once = space(x)
    again = features_of(kind, digits.spec, "digits", digits.train.x)(x)
    by_seven = replace(space, rows=7)(x)
    assert once.dtype == torch.float32
    assert not once.requires_grad
    assert not once.is_inference()  # may be computed with afterwards
    assert torch.equal(once, again)
    torch.testing.assert_close(once, by_seven, atol=2e-5, rtol=1e-5)  # kernels differ by size; features are about 1
    torch.testing.assert_close(once, space(x.numpy()), atol=0, rtol=0)


@pytest.mark.parametrize("kind", OWN)
def test_batches_are_bounded(kind):
    x, seen = images(GREY, 700), []
    space = features_of(kind, GREY, "mnist", x)
    space.embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))
    space(x)
    assert sum(seen) == x.numel()
    assert max(seen) <= ELEMENTS


def test_building_leaves_the_global_generator_alone(digits):
    before = torch.get_rng_state()
    feature_spaces(digits.spec, "digits", digits.train.x)
    assert torch.equal(torch.get_rng_state(), before)


def test_pixels_are_levels_by_their_number(digits):
    x = digits.test.x[:5]
    expected = x.flatten(1).double() / 16
    torch.testing.assert_close(features_of("pixels", digits.spec, "digits", x)(x).double(), expected, atol=1e-7, rtol=0)


def test_real_images_are_scaled_by_the_range_of_training_data():
    spec = DataSpec((1, 8, 8), Support("real"))
    train = torch.linspace(-1, 3, 640).reshape(10, 1, 8, 8)
    found = features_of("pixels", spec, "mine", train)(train)
    torch.testing.assert_close(found, torch.linspace(0, 1, 640).reshape(10, 64), atol=1e-6, rtol=0)
    constant = features_of("pixels", spec, "mine", torch.ones(3, 1, 8, 8))
    assert torch.equal(constant(torch.ones(2, 1, 8, 8)), torch.zeros(2, 64))


@pytest.mark.parametrize("support", [Support("real"), Support("levels", 100)])
def test_standardised(support):
    spec = DataSpec((3,), support)
    train = torch.randint(100, (500, 3), generator=torch.Generator().manual_seed(0)).to(spec.dtype)
    train[:, 2] = 7
    found = features_of("standardised", spec, "table", train)(train)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_principal_components_are_those_of_scikit_learn(digits):
    x = digits.train.x.flatten(1).double() / 16
    reference = PCA(30, svd_solver="full").fit(x.numpy())
    found = features_of("pca", digits.spec, "digits", digits.train.x)(digits.test.x)[:, :30].double()
    expected = torch.from_numpy(reference.transform(digits.test.x.flatten(1).double().numpy() / 16))
    torch.testing.assert_close(found.abs(), expected.abs(), atol=1e-5, rtol=1e-4)  # float32 of numbers up to 2
    variances = features_of("pca", digits.spec, "digits", digits.train.x)(digits.train.x).var(0)
    assert bool((variances.diff() < 0).all())


@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_both_ways_to_principal_components(shape):
    """Many data of few elements and few data of many; the sign is that of scikit-learn, the largest element positive."""
    scale = torch.linspace(3, 1, shape[1], dtype=torch.float64)
    x = scale * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x - x.mean(0)
    expected = torch.from_numpy(PCA(10, svd_solver="full").fit(x.numpy()).components_).T
    torch.testing.assert_close(principal(x, 10), expected, atol=1e-9, rtol=0)


def test_principal_components_end_where_the_data_do():
    x = torch.outer(torch.arange(-10.0, 11.0, dtype=torch.float64), torch.tensor([3.0, -4.0], dtype=torch.float64))
    torch.testing.assert_close(principal(x, 64), torch.tensor([[-0.6], [0.8]], dtype=torch.float64), atol=1e-12, rtol=0)
    same = torch.full((30, 1, 28, 28), 7, dtype=torch.uint8)
    assert torch.equal(features_of("pca", GREY, "mnist", same)(same), torch.zeros(30, 1))
    wide = DataSpec((3, 40, 40), Support("levels", 256))
    same = torch.full((30, 3, 40, 40), 7, dtype=torch.uint8)
    assert torch.equal(features_of("pca", wide, "mine", same)(same), torch.zeros(30, 1))


def test_random_weights_are_the_same_everywhere():
    content = b"".join(tensor.numpy().tobytes() for tensor in random_network(3).state_dict().values())
    assert hashlib.sha256(content).hexdigest() == "35707168270b25e1207e53b428007e60d64eb19a38a2ed438d4272a3df8a4687"
    for weight in random_network(1).state_dict().values():
        torch.testing.assert_close(weight.sum((1, 2, 3)), torch.zeros(len(weight)), atol=1e-5, rtol=0)  # blind to brightness
        fan_in = weight[0].numel()
        expected = 2 / fan_in * (1 - 1 / fan_in)  # He's variance, less the mean's
        assert float(weight.var()) == pytest.approx(expected, rel=0.15)  # first layer: 144 weights, 4 standard errors


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 9), (4, 20, 30)])
def test_random_network_takes_any_image(shape):
    spec = DataSpec(shape, Support("levels", 256))
    x = images(spec, 300)
    found = features_of("random", spec, "mine", x)(x)
    assert found.shape == (300, 128)
    torch.testing.assert_close(found.mean(0), torch.zeros(128), atol=1e-4, rtol=0)
    assert float(found.var(0, correction=0).mean()) == pytest.approx(1, rel=1e-3)
    assert bool(torch.isfinite(features_of("random", spec, "mine", x[:1])(x)).all())  # one datum has no spread to scale by


@pytest.mark.parametrize(
    ("spec", "name", "expected"),
    [
        (GREY, "mnist", ["cnn", "pca", "random"]),
        (GREY, "folder:scans", ["pca", "random"]),
        (COLOUR, "mnist-in-colour", ["pca", "random"]),
        (DataSpec((1, 4, 4), Support("binary")), "mine", ["pca"]),
        (POINTS, "moons", ["standardised"]),
    ],
)
def test_spaces_of_each_kind_of_data(spec, name, expected):
    train = torch.rand(30, *spec.shape) if spec.dtype.is_floating_point else images(spec, 30)
    spaces = feature_spaces(spec, name, train)
    assert [space.name for space in spaces] == expected
    assert all(space.frechet == f"Frechet distance ({space.name})" for space in spaces)


# networks whose weights the user has


class StandIn(torch.nn.Module):
    """Calls like the Inception of StyleGAN's metrics; features are means of colours in turn."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert x.dtype == torch.uint8
        assert x.size(1) == 3
        found = x.float().mean((2, 3)).repeat(1, 1 + self.features // 3)[:, : self.features]
        return found if return_features else found[:, :1008].softmax(1)


class OnePlace(torch.nn.Module):
    """A scripted network without the argument."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().flatten(1)


def scripted(net, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(net).save(str(path))
    return path


@pytest.mark.parametrize("spec", [DataSpec((1, 8, 8), Support("levels", 17)), DataSpec((4, 9, 7), Support("levels", 256))])
def test_inception(spec, tmp_path):
    path = scripted(StandIn(2048), tmp_path / "inception-2015-12-05.pt")
    x = images(spec, 70)
    *_, space = feature_spaces(spec, "mine", x, extra=f"inception={path}")
    found = space(x)
    bytes_ = (x.double() * 255 / (spec.support.count - 1)).round().expand(-1, max(3, spec.shape[0]), -1, -1)[:, :3]
    assert found.shape == (70, 2048)
    torch.testing.assert_close(found[:, :3], bytes_.mean((2, 3)).float(), atol=1e-3, rtol=0)  # float32 means of up to 255
    assert (space.name, space.inception, space.frechet) == ("inception", True, "FID")


@pytest.fixture
def golden(tmp_path):
    """A tiny DINOv2 as a folder of the hub, with an input and the features that Transformers' Dinov2Model gives.

    Made by transformers 5.23.0 with normally distributed weights; positions of 3x3 patches are interpolated to 4x4.
    """
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no dict)
        config = file.metadata()["config"]
    weights = {name.removeprefix("weights/"): tensor for name, tensor in tensors.items() if name.startswith("weights/")}
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    return tmp_path, tensors["input"], tensors["features"]


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_dinov2_is_that_of_transformers(golden, file):
    folder, x, expected = golden
    with torch.no_grad():
        torch.testing.assert_close(DINOv2(folder / file).net(x), expected, atol=1e-5, rtol=1e-5)  # features are about 1


def test_dinov2_sees_imagenets_colours(golden):
    folder = golden[0]
    x = images(DataSpec((1, 224, 224), Support("levels", 256)), 3)
    space = features_of(f"dinov2={folder}", DataSpec((1, 224, 224), Support("levels", 256)), "mine", x)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = DINOv2(folder).net(((x / 255).expand(-1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(space(x), expected, atol=1e-4, rtol=1e-4)
    assert space.frechet == "Frechet distance (dinov2)"


def test_dinov2_resizes(golden):
    spec = DataSpec((3, 20, 12), Support("levels", 256))
    x = images(spec, 2)
    same = functional.interpolate(x / 255, size=(224, 224), mode="bicubic", antialias=True).clamp(0, 1)
    real = DataSpec((3, 224, 224), Support("real"))
    real_space = features_of(
        f"dinov2={golden[0]}", real, "mine", torch.stack([torch.zeros(3, 224, 224), torch.ones(3, 224, 224)])
    )
    found = features_of(f"dinov2={golden[0]}", spec, "mine", x)(x)
    torch.testing.assert_close(found, real_space(same), atol=1e-4, rtol=1e-4)


def broken(folder, how):
    """A path that does not hold what it should, from a folder that does."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    if how == "keys":
        weights["encoder.layer.0.extra.weight"] = torch.ones(1)
    if how == "missing":
        del weights["layernorm.weight"]
    if how == "shape":
        weights["layernorm.weight"] = torch.ones(5)
    (folder / "model.safetensors").write_bytes(b"no tensors" if how == "damaged" else safetensors.torch.save(weights))
    changed = {"model": {"model_type": "vit"}, "giant": {"use_swiglu_ffn": True}, "heads": {"num_attention_heads": None}}
    (folder / "config.json").write_text("{" if how == "json" else json.dumps(config | changed.get(how, {})))
    if how == "empty":
        (folder / "config.json").write_text('{"model_type": "dinov2"}')
    return folder / "elsewhere" if how == "elsewhere" else folder


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("elsewhere", "cannot be read"),
        ("damaged", "cannot be read"),
        ("json", "config.json cannot be read"),
        ("model", "describes 'vit'"),
        ("giant", "describes the giant DINOv2"),
        ("empty", "config.json is incomplete"),
        ("heads", "config.json is incomplete"),
        ("keys", "blocks.0.extra.weight is (1,) in the file, missing in the network"),
        ("missing", "norm.weight is missing in the file, (16,) in the network"),
        ("shape", "norm.weight is (5,) in the file, (16,) in the network"),
    ],
)
def test_wrong_dinov2(golden, how, says):
    with pytest.raises(BadInput, match=re.escape(says)) as caught:
        features_of(f"dinov2={broken(golden[0], how)}", COLOUR, "mine", images(COLOUR, 2))
    assert "facebook/dinov2-small" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "is no file"),
        (lambda path: path.parent, "is no file"),
        (lambda path: [path.write_bytes(b"weights"), path][1], "is another file"),
        (lambda path: scripted(OnePlace(), path), "is another file"),
        (lambda path: scripted(StandIn(1000), path), "gives features (1, 1000)"),
    ],
)
def test_wrong_inception(make, says, tmp_path):
    with pytest.raises(BadInput, match=re.escape(says)) as caught:
        features_of(f"inception={make(tmp_path / 'file.pt')}", COLOUR, "mine", images(COLOUR, 2))
    assert "inception-2015-12-05.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


# mistakes


@pytest.mark.parametrize(
    ("text", "spec", "name", "says"),
    [
        ("cnm", GREY, "mnist", "Perhaps you meant 'cnn'"),
        ("inception", GREY, "mnist", "Perhaps you meant 'inception=PATH'"),
        ("cnn", GREY, "scans", "know grey digits and clothing; got scans"),
        ("cnn", COLOUR, "mnist", "got mnist of shape (3, 20, 12)"),
        ("random", DataSpec((1, 8, 7), Support("binary")), "mine", "at least 8x8"),
        ("pca", POINTS, "moons", "are of images; got data of shape (2,)"),
    ],
)
def test_spaces_that_do_not_fit(text, spec, name, says):
    train = torch.rand(30, *spec.shape) if spec.dtype.is_floating_point else images(spec, 30)
    with pytest.raises(BadInput, match=re.escape(says)) as caught:
        features_of(text, spec, name, train)
    assert "\n" not in str(caught.value)


def test_what_features_refuse():
    train = images(GREY, 30)
    space = features_of("pca", GREY, "mnist", train)
    with pytest.raises(BadInput, match="must have shape"):
        space(train[:, 0])
    with pytest.raises(BadInput, match="must be integers"):
        space(train.float())
    with pytest.raises(BadInput, match="no data"):
        space(train[:0])
    with pytest.raises(BadInput, match="at least 2 training data; got 1"):
        features_of("pca", GREY, "mnist", train[:1])
    with pytest.raises(BadInput, match="NaN"):
        features_of("standardised", POINTS, "moons", torch.rand(30, 2))(torch.full((3, 2), torch.nan))
    with pytest.raises(Unsupported, match="only cnn has one"):
        space.classify(torch.rand(3, 64))
    with pytest.raises(Unsupported, match="tokens"):
        features_of("standardised", DataSpec((5,), Support("tokens", 10)), "text", torch.zeros(30, 5, dtype=torch.uint8))


# the training script


def test_images_are_shifted_by_up_to_two_pixels(script):
    x = torch.rand(200, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    moved = script.shifted(x, 2, torch.Generator().manual_seed(0))
    padded, found = functional.pad(x, (2, 2, 2, 2)), set()
    for one, other in zip(moved, padded, strict=True):
        ways = [(i, j) for i in range(5) for j in range(5) if torch.equal(one, other[:, i : i + 6, j : j + 5])]
        assert len(ways) == 1
        found |= set(ways)
    assert len(found) == 25  # all of them, each missed with probability 0.96 ** 200 = 3e-4; the seed is fixed


def test_images_are_binarised_and_mirrored_as_often_as_asked(script):
    x = torch.full((4000, 1, 28, 28), 51, dtype=torch.uint8)
    found = script.augmented(x, script.Changes(2, False, 0.25, 0.0), torch.Generator().manual_seed(0))
    middle = found[:, 0, 4:-4, 4:-4].flatten(1)
    drawn = ((middle == 0) | (middle == 1)).all(1)
    assert float(drawn.float().mean()) == pytest.approx(0.25, abs=0.03)  # 4 standard errors
    assert float(middle[drawn].mean()) == pytest.approx(0.2, abs=0.003)  # the grey value is the probability
    assert bool((middle[~drawn] == 0.2).all())
    ramp = torch.arange(28, dtype=torch.uint8).expand(4000, 1, 28, 28)
    falls = (
        script.augmented(ramp, script.Changes(0, True, 0.0, 0.0), torch.Generator().manual_seed(0))[:, 0, 0].diff().max(1).values
        < 0
    )
    assert float(falls.float().mean()) == pytest.approx(0.5, abs=0.032)  # 4 standard errors


def test_coarse_images_are_framed_as_digits_are(script):
    """Four quarters of the box, each of one grey value, which 8x8 pixels show as well as 20x20; nothing outside counts."""
    quarters = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    large = functional.pad(quarters.repeat_interleave(10, 2).repeat_interleave(10, 3), (4,) * 4, value=1.0)
    small = quarters.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(script.coarse(large), Frame(28, 20)(small), atol=1e-6, rtol=0)


def test_training_is_decided_by_the_seed(script):
    part = Split(images(GREY, 128), torch.arange(128) % 10)
    data = Dataset("mnist", GREY, part, part, part)
    one, two, three = (script.train(data, epochs=1, seed=seed).weights for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.1.weight"], three["head.1.weight"])


def test_weights_survive_their_file(script, tmp_path):
    script.write(trained("mnist").state_dict(), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (WEIGHTS / "mnist.safetensors").read_bytes()

"""Data sets: parts that depend on each datum alone, named sets by checksum, the user's own in every form."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.data import from_arrays, load, names
from sixfold.data.fetch import payload
from sixfold.data.named import FASHION, MNIST
from sixfold.data.split import hold_out, keys, three_parts
from sixfold.prob.binarise import binarise, binarise_once

FALSE_ALARM = 1e-4
RNG = np.random.default_rng(0)


def parts(data):
    return data.train, data.valid, data.test


def rows(split):
    return {row.numpy().tobytes() for row in split.x}


def find_data(monkeypatch):
    """The idx files of MNIST and Fashion-MNIST at hand, or a reason to skip."""
    if not os.environ.get("SIXFOLD_DATA"):
        monkeypatch.setenv("SIXFOLD_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    for remote in (*MNIST.values(), *FASHION.values()):
        if not any((Path(root) / remote.folder / remote.name).is_file() for root in os.environ["SIXFOLD_DATA"].split(os.pathsep)):
            pytest.skip(f"{remote.folder}/{remote.name} is not in a folder of SIXFOLD_DATA")


# splits


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num=st.integers(4, 60))
def test_split_does_not_depend_on_order(seed, num):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 4, (num, 3)).astype(np.uint8))  # few values, so that there are duplicates
    if len(torch.unique(x, dim=0)) < 4:
        return
    order = torch.from_numpy(rng.permutation(num))
    for part, index in three_parts(x, "x").items():
        there = {tuple(row) for row in x[index].tolist()}
        assert {tuple(row) for row in x[order][three_parts(x[order], "x")[part]].tolist()} == there
        assert len(index)


def test_parts_are_disjoint_and_whole_and_keep_duplicates_together():
    x = torch.from_numpy(RNG.integers(0, 5, (4000, 4)))
    index = three_parts(x, "x")
    assert sorted(torch.cat(list(index.values())).tolist()) == list(range(4000))
    found = [set(map(tuple, x[i].tolist())) for i in index.values()]
    assert sum(map(len, found)) == len(set().union(*found))


def test_shares_are_80_10_10():
    num = 50_000
    index = three_parts(torch.from_numpy(RNG.normal(size=(num, 2))), "x")
    counts = [len(i) for i in index.values()]
    assert stats.chisquare(counts, [0.8 * num, 0.1 * num, 0.1 * num]).pvalue > FALSE_ALARM
    valid = len(hold_out(torch.from_numpy(RNG.normal(size=(num, 2))), 0.25)["valid"])
    assert stats.binomtest(valid, num, 0.25).pvalue > FALSE_ALARM


def test_more_data_move_none_that_were_there():
    x = torch.from_numpy(RNG.normal(size=(2000, 2)))
    some, all_ = three_parts(x[:500], "x"), three_parts(x, "x")
    for part in some:
        assert set(some[part].tolist()) <= set(all_[part].tolist())


def test_hash_is_the_same_on_every_machine():
    # Written down once: another value means that everybody's test data have changed.
    x = torch.tensor([[1.0, -2.5], [0.0, 3.0]])
    assert keys(x).tolist() == [
        int.from_bytes(hashlib.blake2b(bytes.fromhex(text), digest_size=8, key=b"sixfold split 1").digest(), "little")
        for text in ("0000803f000020c0", "0000000000004040")
    ]
    assert keys(torch.tensor([[-0.0, 3.0]])).tolist() == keys(x[1:]).tolist()
    assert keys(torch.tensor([[7, 8]], dtype=torch.uint8)).tolist() == [355961822144802457]


@pytest.mark.parametrize("num", [4, 5, 6, 10])
def test_few_rows_still_fill_every_part(num):
    for seed in range(20):
        index = three_parts(torch.from_numpy(np.random.default_rng(seed).normal(size=(num, 2))), "x")
        assert all(len(rows) for rows in index.values())


# named sets


def test_names_are_listed_without_anything_heavy():
    code = "import sys; from sixfold.data import names; assert 'mnist' in names(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "sklearn", "PIL"} & set(done.stdout.split())


def test_every_name_has_one_line():
    assert all(text and "\n" not in text for text in names().values())


def test_digits():
    data = load("digits")
    assert sum(len(part) for part in parts(data)) == 1797
    assert data.train.x.dtype == torch.uint8
    assert int(max(part.x.max() for part in parts(data))) == 16
    assert data.spec.support.count == 17
    assert data.classes == tuple("0123456789")
    assert not rows(data.train) & rows(data.test)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_like(name, monkeypatch):
    find_data(monkeypatch)
    data = load(name)
    assert len(data.train) + len(data.valid) == 60_000
    assert len(data.test) == 10_000
    assert 4_700 < len(data.valid) < 5_300
    assert data.spec.check(data.test.x).dtype == torch.uint8
    assert all(len(part.cond.unique()) == 10 for part in parts(data))
    assert not rows(data.train) & rows(data.valid)


def test_test_part_is_the_official_one(monkeypatch):
    find_data(monkeypatch)
    data = load("mnist")
    official = payload(MNIST["test images"])
    assert data.test.x.numpy().tobytes() == official[16:]
    assert bytes(data.test.cond.tolist()) == payload(MNIST["test labels"])[8:]


def test_dynamic_binarisation_draws_training_anew_and_holds_the_rest():
    data, grey = load("digits:binary"), load("digits")
    index = torch.arange(len(data.train))

    def draw(seed):
        return data.train.batch(index, Draws(len(index), generator=torch.Generator().manual_seed(seed)))[0]

    assert torch.equal(data.train.x, grey.train.x)
    assert not torch.equal(draw(0), draw(1))
    assert torch.equal(draw(0), draw(0))
    assert torch.equal(data.test.rows(), load("digits:binary").test.rows())
    for part in (draw(0), data.valid.rows(), data.test.rows()):
        assert data.spec.check(part).unique().tolist() == [0, 1]


def test_static_binarisation_is_drawn_once():
    one, two, dynamic = load("digits:static"), load("digits:static"), load("digits:binary")
    assert all(torch.equal(a.x, b.x) for a, b in zip(parts(one), parts(two), strict=True))
    assert one.train.draw is None
    assert torch.equal(one.test.x, dynamic.test.x)


def test_grey_value_is_the_probability():
    levels, num = 5, 20_000
    x = torch.arange(levels, dtype=torch.uint8).expand(num, levels)
    counts = binarise_once(x, levels=levels, seed=3).sum(0)
    assert counts[0] == 0
    assert counts[-1] == num
    for k in range(1, levels - 1):
        assert stats.binomtest(int(counts[k]), num, k / (levels - 1)).pvalue > FALSE_ALARM


def test_binarisation_of_shards_is_that_of_the_joint_batch():
    x = torch.randint(256, (8, 1, 3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)

    def drawn(part, rank, world):
        return binarise(part, Draws(len(part), generator=torch.Generator().manual_seed(2), shard=(rank, world)), levels=256)

    assert torch.equal(torch.cat([drawn(x[:4], 0, 2), drawn(x[4:], 1, 2)]), drawn(x, 0, 1))


# arrays


@pytest.mark.parametrize(
    ("array", "shape", "kind", "size"),
    [
        (RNG.normal(size=(50, 3)), (3,), "real", None),
        (RNG.normal(size=50), (1,), "real", None),
        (torch.randn(50, 2, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0)), (2,), "real", None),
        (RNG.normal(size=(50, 3)).astype(">f8"), (3,), "real", None),
        (RNG.normal(size=(50, 8, 8, 3)), (3, 8, 8), "real", None),
        (RNG.integers(0, 256, (50, 6, 5), dtype=np.uint8), (1, 6, 5), "levels", 256),
        (RNG.integers(0, 256, (50, 6, 5, 3), dtype=np.uint8), (3, 6, 5), "levels", 256),
        (RNG.integers(0, 256, (50, 3, 6, 5), dtype=np.uint8), (3, 6, 5), "levels", 256),
        (RNG.integers(0, 2, (50, 9)), (9,), "binary", 2),
        (RNG.random((50, 9)) < 0.5, (9,), "binary", 2),
        (np.arange(50 * 2).reshape(50, 2) % 7, (2,), "levels", 7),
        (np.arange(50 * 2).reshape(50, 2), (2,), "levels", 100),
        (np.arange(500), (1,), "levels", 500),
    ],
)
def test_arrays_become_what_their_type_says(array, shape, kind, size):
    data = from_arrays(array)
    assert (data.spec.shape, data.spec.support.kind, data.spec.support.size) == (shape, kind, size)
    assert sum(len(part) for part in parts(data)) == len(array)
    for part in parts(data):
        assert part.x.dtype == data.spec.dtype
        data.spec.check(part.x)


def test_channels_last_are_moved_not_reshaped():
    x = RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    data = from_arrays(x)
    wanted = {image.transpose(2, 0, 1).tobytes() for image in x}
    assert set().union(*map(rows, parts(data))) == wanted


def test_users_array_is_not_shared():
    x = RNG.normal(size=(30, 2)).astype(np.float32)
    data = from_arrays(x)
    before = data.train.x.clone()
    x[:] = 0
    assert torch.equal(data.train.x, before)


def test_labels_stay_with_their_rows():
    x = RNG.normal(size=(200, 2))
    labels = (x[:, 0] > 0).astype(int)
    for given_labels, classes in ((labels, ("0", "1")), (np.array(["left", "right"])[labels], ("left", "right"))):
        data = from_arrays(x, given_labels)
        assert data.classes == classes
        for part in parts(data):
            assert torch.equal(part.cond, (part.x[:, 0] > 0).long())
    assert from_arrays(x, labels, classes=("no", "yes")).classes == ("no", "yes")
    assert from_arrays(x, np.char.add("", (labels * 9 + 1).astype(str))).classes == ("1", "10")


def test_vectors_condition():
    data = from_arrays(RNG.normal(size=(50, 2)), RNG.normal(size=(50, 3))).conditional()
    assert (data.spec.cond.kind, data.spec.cond.size) == ("vector", 3)


def test_levels_can_be_given():
    assert from_arrays(np.arange(40).reshape(20, 2) % 5, levels=16).spec.support.size == 16
    assert from_arrays((np.arange(60).reshape(20, 3) % 7).astype(np.uint8), levels=7).spec.support.size == 7


def test_npy_and_npz(tmp_path):
    x, y = RNG.integers(0, 256, (60, 4, 4), dtype=np.uint8), RNG.integers(0, 3, 60)
    np.save(tmp_path / "a.npy", np.asfortranarray(x))
    np.savez_compressed(tmp_path / "b.npz", data=x, labels=y, classes=np.array(["a", "b", "c"]))
    np.savez(tmp_path / "c.npz", anything=x)
    whole = from_arrays(x, y)
    for name in ("a.npy", "b.npz", "c.npz"):
        data = load(str(tmp_path / name))
        assert torch.equal(data.train.x, whole.train.x)
    data = load(str(tmp_path / "b.npz"))
    assert data.classes == ("a", "b", "c")
    assert torch.equal(data.test.cond, whole.test.cond)


# tables


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n5,6e0\n7,8",
        "1,2\n3,4\n5,6\n7,8\n",
        "a;b\r\n1;2\r\n3;4\r\n5;6\r\n7;8\r\n",
        "\ufeff1\t2\n3\t4\n\n5\t6\n7\t8",
        '"a, really","b\nof two lines"\n"1","2"\n3,4\n 5 , +6\n7.0,.8e1\n',
    ],
)
def test_csv_reads_the_same_from_every_dialect(tmp_path, text):
    data = load(write(tmp_path / "t.csv", text))
    assert sorted(torch.cat([part.x for part in parts(data)]).tolist()) == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_csv_of_one_column(tmp_path):
    assert load(write(tmp_path / "t.csv", "height\n1\n2\n3\n4\n")).spec.shape == (1,)


@pytest.mark.parametrize(("head", "label"), [("len,kind,wid\n", "kind"), ("", "2")])
def test_csv_label_column(tmp_path, head, label):
    lines = "".join(f"{i},{'cat' if i % 2 else 'an ox'},{i * i}\n" for i in range(40))
    data = load(write(tmp_path / "t.csv", head + lines) + f":label={label}")
    assert data.classes == ("an ox", "cat")
    assert data.spec.shape == (2,)
    for part in parts(data):
        assert torch.equal(part.cond, part.x[:, 0].long() % 2)


def test_parquet_reads_as_csv(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"a": list(range(30)), "b": [i / 2 for i in range(30)], "kind": ["x" if i % 3 else "y" for i in range(30)]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    text = "a,b,kind\n" + "".join(f"{a},{b},{k}\n" for a, b, k in zip(*columns.values(), strict=True))
    one, two = load(f"{tmp_path}/t.parquet:label=kind"), load(write(tmp_path / "t.csv", text) + ":label=kind")
    for a, b in zip(parts(one), parts(two), strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.cond, b.cond)
    assert one.classes == two.classes == ("x", "y")


# folders


def draw_images(folder, num, mode="RGB", ending="png", size=(6, 5), seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(num)]
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.{ending}")
    return pixels


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "webp", "ppm", "tga"])
def test_folder_keeps_the_bytes(tmp_path, ending):
    save = {"webp": {"lossless": True}}.get(ending, {})
    pixels = draw_images(tmp_path / "pics", 12)
    for i, image in enumerate(pixels):
        (tmp_path / "pics" / f"{i}.png").unlink()
        Image.fromarray(image).save(tmp_path / "pics" / f"{i}.{ending}", **save)
    data = load(f"folder:{tmp_path / 'pics'}")
    assert data.spec.shape == (3, 5, 6)
    assert set().union(*map(rows, parts(data))) == {image.transpose(2, 0, 1).tobytes() for image in pixels}


def test_grey_folder_with_classes(tmp_path):
    for k, name in enumerate(["zèbre 斑马", "ant"]):
        draw_images(tmp_path / name / "deeper", 8, mode="L", seed=k)
    (tmp_path / ".hidden").write_text("not looked at")
    (tmp_path / "ant" / "Thumbs.db").write_text("nor this")
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("ant", "zèbre 斑马")
    assert data.spec.shape == (1, 5, 6)
    assert data.spec.support.count == 256
    assert sum(int(part.cond.sum()) for part in parts(data)) == 8


def test_jpeg_is_read_upright(tmp_path):
    for i in range(5):
        exif = Image.Exif()
        exif[0x0112] = 6 if i else 1  # turned by a quarter
        size = (8, 16) if i == 0 else (16, 8)
        Image.new("RGB", size, (i * 60, 10, 10)).save(tmp_path / f"{i}.jpg", exif=exif)
    assert load(f"folder:{tmp_path}").spec.shape == (3, 16, 8)


def test_opaque_alpha_and_palettes_become_colour(tmp_path):
    pixels = draw_images(tmp_path, 5)
    Image.fromarray(pixels[0]).convert("RGBA").save(tmp_path / "0.png")
    Image.new("P", (6, 5), 3).save(tmp_path / "1.png")
    data = load(f"folder:{tmp_path}")
    assert data.spec.shape == (3, 5, 6)
    assert pixels[0].transpose(2, 0, 1).tobytes() in set().union(*map(rows, parts(data)))


def test_links_that_lead_elsewhere_are_followed(tmp_path):
    draw_images(tmp_path / "elsewhere", 5)
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "linked").symlink_to(tmp_path / "elsewhere")
    assert load(f"folder:{tmp_path / 'pics'}").classes == ("linked",)


def test_pillows_limit_is_put_back(tmp_path):
    draw_images(tmp_path, 4)
    before = Image.MAX_IMAGE_PIXELS
    load(f"folder:{tmp_path}")
    (tmp_path / "9.png").write_bytes(b"no image")
    with pytest.raises(BadInput):
        load(f"folder:{tmp_path}")
    assert before == Image.MAX_IMAGE_PIXELS

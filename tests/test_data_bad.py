"""Bad input of every kind: one line that names file, row or field, what was expected and the way out."""

import io
import os
import pickle
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from sixfold.core.errors import BadInput
from sixfold.data import from_arrays, load

GOOD = np.arange(40.0).reshape(20, 2) ** 1.5


def refused(act, *words):
    """The message of the refusal, after checking that it is one printable line that ends as a sentence."""
    with pytest.raises(BadInput) as error:
        act()
    text = str(error.value)
    assert text.isprintable(), text
    assert text.endswith("."), text
    for word in words:
        assert re.search(word, text), f"{word!r} not in {text!r}"
    return text


# names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnits", ["unknown data 'mnits'", "Perhaps you meant 'mnist'", "checkerboard", "folder:PATH"]),
        ("mnist:grey", ["Perhaps you meant 'mnist:binary'"]),
        ("moons:static", ["unknown"]),
        ("", ["unknown data ''", "Known: moons"]),
        ("folder:", ["folder:PATH"]),
        ("xyzzy.docx", ["unknown data", r"PATH\.csv"]),
        ("two\nlines", ["two\\?lines"]),
    ],
)
def test_unknown_name(name, words):
    refused(lambda: load(name), *words)


@pytest.mark.parametrize("name", ["gone.npy", "gone.npz", "gone.csv", "gone.parquet", "gone.csv:label=a"])
def test_missing_file(tmp_path, name):
    refused(lambda: load(f"{tmp_path}/{name}"), r"gone\.\w+ is missing; expected a file")


def test_folder_without_the_word(tmp_path):
    refused(lambda: load(str(tmp_path)), f"use folder:{tmp_path}")
    (tmp_path / "pictures.npy").mkdir()
    refused(lambda: load(f"{tmp_path}/pictures.npy"), "is a folder; expected a file", "folder:")


def test_file_of_unknown_kind(tmp_path):
    (tmp_path / "a.docx").write_text("x")
    refused(lambda: load(f"{tmp_path}/a.docx"), r"a\.docx is a file of no known kind", r"PATH\.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.parquet"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    refused(lambda: load(f"{tmp_path}/{name}"), r"a\.\w+ is empty; expected data")


def test_forbidden_file(tmp_path, monkeypatch):
    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.csv").write_text("1\n2\n3\n")
    monkeypatch.setattr("pathlib.Path.open", forbidden)
    refused(lambda: load(f"{tmp_path}/a.csv"), "cannot be read: Permission denied")


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf", "0"])
def test_limit_that_is_no_number(tmp_path, monkeypatch, value):
    np.save(tmp_path / "a.npy", GOOD)
    monkeypatch.setenv("SIXFOLD_MAX_GB", value)
    refused(lambda: load(f"{tmp_path}/a.npy"), f"SIXFOLD_MAX_GB must be a positive number; got '{value}'")


def test_file_above_the_limit(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", GOOD)
    monkeypatch.setenv("SIXFOLD_MAX_GB", "1e-7")
    refused(lambda: load(f"{tmp_path}/a.npy"), r"would take 4\.17e-07 GB; the limit is 9\.97e-08 GB", "Set SIXFOLD_MAX_GB")


# arrays


def with_value(value, row=3, column=1):
    x = GOOD.copy()
    x[row, column] = value
    return x


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.empty((0, 2)), [r"shape \(0, 2\)", "at least one row"]),
        (np.empty((5, 0)), [r"shape \(5, 0\)"]),
        (np.float64(3.0), [r"shape \(\)"]),
        (np.ones((1, 2)), ["1 row, 1 distinct; expected at least 4"]),
        (np.tile([1.0, 2.0], (50, 1)), ["50 rows, 1 distinct"]),
        (with_value(np.nan), ["nan in row 3, column 1", "Drop or fill"]),
        (with_value(-np.inf), ["-inf in row 3, column 1"]),
        (with_value(1e300), [r"1e\+300 in row 3, column 1; expected finite float32"]),
        (np.full((4, 3, 8, 8), np.nan), [r"row 0, element \(0, 0, 0\)"]),
        (np.column_stack([GOOD, np.full(20, 7.0)]), ["column 2 of mine is constant \\(7\\) in the training part", "Drop it"]),
        (np.array([["a", "b"]] * 5), ["type <U1; expected floats, integers or booleans"]),
        (np.array([[1, None]] * 5), ["type object"]),
        (GOOD + 1j, ["type complex128"]),
        (np.array(["2026-01-01"] * 5, "M8[D]"), ["datetime64"]),
        ([[1.0, 2.0], [3.0]], ["ragged"]),
        (np.arange(-3, 37), ["integers from -3 to 36; expected 0 to 65535", "Convert to floats"]),
        (np.arange(20) * 10_000, ["integers from 0 to 190000"]),
    ],
)
def test_bad_arrays(x, words):
    refused(lambda: from_arrays(x, name="mine"), "mine", *words)


def test_integers_above_the_levels_given():
    refused(lambda: from_arrays(np.arange(20), levels=16), "expected 0 to 15 as levels")


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0] * 19, (), [r"shape \(19,\); expected one a row, \(20,\)"]),
        ([0] * 19 + [2], ("a", "b"), ["label 2 in row 19; expected 0 to 1"]),
        ([0] * 19 + [-1], (), ["label -1 in row 19"]),
        ([0] * 19 + [10**9], (), ["label 1000000000 in row 19; expected 0 to 19", "as names"]),
        (["a"] * 19 + ["c"], ("a", "b"), ["label 'c' in row 19; expected one of a, b"]),
        ([0.5] * 20, (), ["expected whole numbers or names"]),
        ([np.nan] * 20, (), ["expected whole numbers or names"]),
        (np.zeros((20, 2), int), (), ["expected whole numbers or names, one a row"]),
        (np.zeros((20, 2, 2)), (), [r"shape \(20, 2, 2\)"]),
        (np.full((20, 2), np.inf), (), ["labels of mine holds inf in row 0"]),
        ([[1], [2, 3]], (), ["labels of mine is ragged"]),
        ([None] * 20, (), ["labels of mine are object"]),
    ],
)
def test_bad_labels(labels, classes, words):
    refused(lambda: from_arrays(GOOD, labels, name="mine", classes=classes), *words)


# .npy and .npz


def npy_header(shape, descr="<f8", version=(1, 0)):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    (np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0)(file, header)
    return file.getvalue()


class Evil:
    """A pickle that would leave a mark."""

    def __reduce__(self):
        return (os.mkdir, ("ran-the-pickle",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, I am no array", ["no NumPy array", "numpy.save"]),
        (b"\x93NUMPY", ["no NumPy array"]),
        (pickle.dumps(Evil()), ["no NumPy array"]),
        (npy_header((20, 2)) + GOOD.tobytes()[:-1], ["promises 320 bytes as \\(20, 2\\) float64 but holds 319"]),
        (npy_header((20, 2)) + GOOD.tobytes() + b"!", ["but holds 321"]),
        (npy_header((10**9, 10**9)) + GOOD.tobytes(), ["promises 8000000000000000000 bytes"]),
        (npy_header((10**9, 10**9), version=(2, 0)) + GOOD.tobytes(), ["promises 8000000000000000000 bytes"]),
        (npy_header((-20, -2)) + GOOD.tobytes(), [r"as \(-20, -2\)"]),
        (npy_header((1,), "|O") + pickle.dumps([Evil()]), ["holds object; expected plain numbers", "can run code"]),
        (npy_header((2,), [("a", "<f8")]) + bytes(16), ["expected plain numbers"]),
    ],
)
def test_bad_npy(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(content)
    refused(lambda: load("a.npy"), r"a\.npy", *words)
    assert not (tmp_path / "ran-the-pickle").exists()


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)


NPY = npy_header((20, 2)) + GOOD.tobytes()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, ["holds nothing; expected an array named x, data or images"]),
        ({"a.npy": NPY, "b.npy": NPY}, ["holds a, b; expected an array named x"]),
        ({"../x.npy": NPY}, [r"member '\.\./x\.npy'", r"names such as x\.npy"]),
        ({"/etc/x.npy": NPY}, ["member '/etc/x.npy'"]),
        ({"x.txt": b"hello"}, [r"member 'x\.txt'"]),
        ({"x.npy": b"hello"}, [r"a\.npz\[x\.npy\] is no NumPy array"]),
        ({"x.npy": npy_header((1,), "|O") + pickle.dumps([Evil()])}, [r"\[x\.npy\] holds object"]),
        ({"x.npy": npy_header((10**12,)) + bytes(8)}, ["promises 8000000000000 bytes"]),
        ({"x.npy": NPY, "y.npy": npy_header((3,), "<i8") + bytes(24)}, [r"labels of .*a\.npz have shape \(3,\)"]),
    ],
)
def test_bad_npz(tmp_path, monkeypatch, members, words):
    monkeypatch.chdir(tmp_path)
    archive("a.npz", members)
    refused(lambda: load("a.npz"), r"a\.npz", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("content", [b"PK\x03\x04 not really", pickle.dumps(Evil()), b"\x93NUMPY"])
def test_npz_that_is_no_archive(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    refused(lambda: load(f"{tmp_path}/a.npz"), r"a\.npz is no whole \.npz archive", "numpy.savez")


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=GOOD)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    refused(lambda: load(str(path)), r"a\.npz is no whole \.npz archive|no NumPy array")
    path.write_bytes(content[:100])
    refused(lambda: load(str(path)), r"a\.npz is no whole \.npz archive")


def test_zip_bomb_is_never_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("SIXFOLD_MAX_GB", "0.01")
    archive(tmp_path / "a.npz", {"x.npy": npy_header((2**10,), "|u1") + bytes(2**10)}, zipfile.ZIP_DEFLATED)
    archive(tmp_path / "b.npz", {"x.npy": npy_header((2**25,), "|u1") + bytes(2**25)}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "b.npz").stat().st_size < 2**16
    tracemalloc.start()
    refused(lambda: load(f"{tmp_path}/b.npz"), r"b\.npz\[x\.npy\] would take 0\.0313 GB; the limit is 0\.01 GB")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    refused(lambda: load(f"{tmp_path}/a.npz"), "1024 rows, 1 distinct")


def test_archive_that_lies_about_sizes(tmp_path):
    """A member whose directory claims less than it unpacks to is cut at the claim, and its own header then disagrees."""
    path = tmp_path / "a.npz"
    archive(path, {"x.npy": npy_header((2**20,), "|u1") + bytes(2**20)}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes().replace(struct.pack("<I", 2**20 + 128), struct.pack("<I", 1000))
    path.write_bytes(content)
    refused(lambda: load(str(path)), r"a\.npz")


# tables


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n", ["no rows of data"]),
        (b"\n\n", ["no rows of data"]),
        (b"a,b\n1,2\n3,4,5\n", ["line 3: 3 fields; expected 2 as in the first row"]),
        (b"a,b\n1,2\n\n3\n", ["line 4: 1 fields; expected 2"]),
        (b'a,b\n"1\n",2\n3\n', ["line 4: 1 fields"]),
        (b"a,b\n1,2\n3,x\n", ["line 3, column 'b': got 'x'; expected a number", r"t\.csv:label=b"]),
        (b"1,2\n3,x\n", ["line 2, column '2': got 'x'"]),
        (b"a,b\n1,2\n3,\n", ["line 3, column 'b': got ''; expected a number"]),
        (b"a,b\n1,1_000\n", ["got '1_000'"]),
        (b"a;b\n1;2,5\n", ["line 2, column 'b': got '2,5'"]),
        (b"a,b\n1,2\n3,1e999\n", ["line 3, column 'b': got '1e999'; expected a finite float32 number"]),
        (b"a,b\n1,2\n3,1e39\n", ["got '1e39'; expected a finite float32"]),
        (b"a,b\n1,2\n3,NaN\n", ["got 'NaN'; expected a finite"]),
        (b"a,b\n1,2\n3,-inf\n", ["got '-inf'; expected a finite"]),
        (b"a,b\n1,2\n3,\xff4\n", ["not UTF-8: byte 0xff in line 3", "Save it as UTF-8"]),
        ("a,b\n1,2\n".encode("utf-16"), ["not UTF-8: byte 0xff in line 1"]),
        (b'a,b\n1,2\n3,"4\n', ["no CSV in line"]),
        (b'a,b\n1,2\n3,"4"5\n', ["no CSV in line 3"]),
        (b"a,b\n1,2\n3,\x004\n", ["line 3, column 'b': got '\\?4'"]),
        (b"a\n" + b"9" * 200_000 + b"\n", ["no CSV in line 2: field larger than field limit"]),
        (b"a" * 200_000 + b"\n1\n", ["no CSV in its first row"]),
        (b"a,b\n1,2\n", ["1 row, 1 distinct; expected at least 4"]),
        (b"a,age\n1,5\n2,5\n3,5\n4,5\n", ["column 'age' of .*t.csv is constant \\(5\\)", "Drop it"]),
        (b"a,two\x07 bells\n1,x\n", ["column 'two\\? bells'"]),
        (b"\x89PNG\r\n\x1a\n", ["not UTF-8: byte 0x89 in line 1"]),
    ],
)
def test_bad_csv(tmp_path, content, words):
    (tmp_path / "t.csv").write_bytes(content)
    refused(lambda: load(f"{tmp_path}/t.csv"), r"t\.csv", *words)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("specie", ["no column 'specie'", "Perhaps you meant 'species'"]),
        ("a", ["more than one column 'a'"]),
        ("species", ["line 3: column 'species' is empty; expected the name of a class|line 3: column"]),
    ],
)
def test_bad_label_column(tmp_path, label, words):
    (tmp_path / "t.csv").write_text("a,a,species\n1,2,x\n3,4, \n5,6,y\n")
    refused(lambda: load(f"{tmp_path}/t.csv:label={label}"), r"t\.csv", *words)


def test_table_of_nothing_but_labels(tmp_path):
    (tmp_path / "t.csv").write_text("kind\na\nb\nc\n")
    refused(lambda: load(f"{tmp_path}/t.csv:label=kind"), r"t\.csv", r"shape \(3, 0\)")


def parquet_of(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return str(path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1.0, None, 3.0]}, ["row 1, column 'a': missing; expected a value"]),
        ({"a": [1.0, 2.0, float("nan")]}, ["nan in row 2, column 'a'"]),
        ({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "z"]}, ["column 'b': type string; expected numbers", ":label=b"]),
        ({"a": [1, 2, 3, 4], "b": [5, 5, 5, 5]}, ["column 'b' of .* is constant"]),
        ({"a": []}, ["column 'a': type null|shape"]),
    ],
)
def test_bad_parquet(tmp_path, columns, words):
    refused(lambda: load(parquet_of(tmp_path / "t.parquet", **columns)), *words)


def test_damaged_parquet(tmp_path):
    name = parquet_of(tmp_path / "t.parquet", a=list(range(100)))
    content = (tmp_path / "t.parquet").read_bytes()
    for damaged in (content[:-10], b"PAR1" + bytes(50) + b"PAR1", b"hello"):
        (tmp_path / "t.parquet").write_bytes(damaged)
        refused(lambda: load(name), r"t\.parquet is no whole Parquet file")
    (tmp_path / "t.parquet").write_bytes(content)
    refused(lambda: load(f"{name}:label=b"), "no column 'b'", "Perhaps you meant|Known: a")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(lambda: load(f"{tmp_path}/t.parquet"), r"t\.parquet needs pyarrow", r"pip install 'sixfold\[data\]'")


# folders of images


def png(width, height, body=b"", depth=8, colour=0):
    """A PNG whose header says what it likes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.fixture
def pictures(tmp_path):
    """Four good images, the bad one comes last."""
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def encoded(mode="RGB", form="PNG", size=(6, 5), **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **options)
    return file.getvalue()


def frames(form):
    file = io.BytesIO()
    first, *rest = (Image.new("RGB", (6, 5), (60 * i, 0, 0)) for i in range(3))
    first.save(file, form, save_all=True, append_images=rest)
    return file.getvalue()


def half_transparent():
    file = io.BytesIO()
    image = Image.new("RGBA", (6, 5), (1, 2, 3, 255))
    image.putpixel((0, 0), (1, 2, 3, 128))
    image.save(file, "PNG")
    return file.getvalue()


def noise_png():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def icon_of(picture):
    """An icon that says 16 x 16 and holds whatever it likes."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


NOISE = noise_png()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("z.txt", b"hello", ["no image that Pillow knows", "Move it out"]),
        ("z.png", b"", ["no image that Pillow knows"]),
        ("z.png", b"<html>404</html>", ["no image that Pillow knows"]),
        ("z.png", NOISE[:-30], ["damaged image"]),
        ("z.png", flipped(NOISE, 18), ["no image that Pillow knows|damaged image"]),
        ("z.png", flipped(NOISE, 60), ["damaged image"]),
        ("z.jpg", encoded(form="JPEG", size=(60, 50))[:-200], ["damaged image"]),
        ("z.png", png(40_000, 30_000, zlib.compress(bytes(100))), ["more than 16,777,216 pixels", "smaller"]),
        ("z.png", png(4_097, 4_096, zlib.compress(bytes(100))), ["16,777,216"]),
        ("z.ico", icon_of(png(5_000, 5_000, zlib.compress(bytes(100)))), ["more than 16,777,216 pixels"]),
        ("z.png", encoded(size=(7, 5)), ["colour, 7 x 5; expected colour, 6 x 5 as 0.png", "one size and mode"]),
        ("z.png", encoded("L"), ["grey, 6 x 5; expected colour, 6 x 5"]),
        ("z.jpg", encoded("CMYK", "JPEG"), ["JPEG in mode CMYK; expected pixels in grey or RGB"]),
        ("z.png", encoded("I;16"), ["more than 8 bits a channel", "expected 8"]),
        ("z.png", png(6, 5, zlib.compress(bytes(5 * 37)), depth=16, colour=2), ["more than 8 bits a channel"]),
        ("z.tiff", encoded("F", "TIFF"), [r"more than 8 bits a channel \(mode F\)"]),
        ("z.tiff", encoded("LAB", "TIFF"), ["in mode LAB"]),
        ("z.eps", encoded("RGB", "EPS"), ["EPS in mode RGB; expected pixels"]),
        ("z.png", half_transparent(), ["partly transparent; expected opaque", "Flatten"]),
        ("z.png", encoded("P", transparency=0), ["partly transparent"]),
        ("z.gif", frames("GIF"), ["3 frames; expected a still image"]),
        ("z.png", frames("PNG"), ["3 frames"]),
        ("z.webp", frames("WEBP"), ["3 frames"]),
    ],
)
def test_bad_image(pictures, name, content, words):
    (pictures / name).write_bytes(content)
    refused(lambda: load(f"folder:{pictures}"), re.escape(str(pictures / name)), *words)


def test_bomb_that_compresses_well_is_not_decoded(pictures):
    body = zlib.compress(bytes(5_000 * 5_001), 9)  # 25 MB of black from 25 kB
    (pictures / "z.png").write_bytes(png(5_000, 5_000, body))
    tracemalloc.start()
    refused(lambda: load(f"folder:{pictures}"), "z.png has .*pixels")
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_too_many_images(pictures, monkeypatch):
    monkeypatch.setenv("SIXFOLD_MAX_GB", "1e-7")
    refused(lambda: load(f"folder:{pictures}"), "4 images like .*0.png would take")


def test_missing_and_empty_folder(tmp_path):
    refused(lambda: load(f"folder:{tmp_path}/gone"), "gone is missing; expected a folder of images")
    refused(lambda: load(f"folder:{tmp_path}"), "holds no files; expected images")
    (tmp_path / "a.png").write_bytes(NOISE)
    refused(lambda: load(f"folder:{tmp_path}/a.png"), "a.png is no folder")
    refused(lambda: load(f"folder:{tmp_path}"), "1 row, 1 distinct")


def test_images_beside_subfolders(pictures):
    (pictures / "cats").mkdir()
    (pictures / "cats" / "0.png").write_bytes(NOISE)
    refused(lambda: load(f"folder:{pictures}"), "holds images beside its subfolders, '0.png' first")


def test_symbolic_links_in_a_loop(pictures):
    (pictures / "back").symlink_to(pictures)
    refused(lambda: load(f"folder:{pictures}"), "back is a link back to a folder above it, a loop")
    (pictures / "back").unlink()
    (pictures / "self").symlink_to(pictures / "self")
    refused(lambda: load(f"folder:{pictures}"), "self is no file that can be read")
    (pictures / "self").unlink()
    (pictures / "broken.png").symlink_to(pictures / "gone")
    refused(lambda: load(f"folder:{pictures}"), "broken.png is no file that can be read")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_is_not_waited_for(pictures):
    os.mkfifo(pictures / "z.png")
    refused(lambda: load(f"folder:{pictures}"), "z.png is no file that can be read")


@pytest.mark.parametrize("name", ["naïve 猫.png", "line\nbreak.png", os.fsdecode(b"latin\xe9.png")])
def test_any_name_is_printed_in_one_line(pictures, name):
    (pictures / name).write_bytes(b"hello")
    text = refused(lambda: load(f"folder:{pictures}"), "no image that Pillow knows")
    text.encode("utf-8")

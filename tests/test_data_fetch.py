"""Downloads: what is right is kept, what is wrong or cut short leaves nothing behind; idx and gzip are believed in nothing."""

import gzip
import hashlib
import struct
import threading
import tracemalloc
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sixfold.core.errors import BadInput
from sixfold.data.fetch import Remote, payload
from sixfold.data.files import gunzip
from sixfold.data.idx import read_idx

IDX = bytes([0, 0, 8, 2]) + struct.pack(">II", 3, 4) + bytes(range(12))
GZ = gzip.compress(IDX, mtime=0)


class Handler(BaseHTTPRequestHandler):
    """Answers by the first folder of the address."""

    def do_GET(self):
        self.server.asked.append(self.path)
        kind = self.path.split("/")[1]
        body = {
            "html": b"<!doctype html><title>Sign in</title>",
            "other": gzip.compress(IDX[:-1] + b"!", mtime=0),
            "cut": GZ[:-9],
            "bomb": gzip.compress(bytes(2**24)),
            "flood": bytes(2**20),
        }.get(kind, GZ)
        self.send_response(404 if kind == "missing" else 200)
        self.send_header("Content-Length", str(len(body) + (1000 if kind == "short" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def remote(server, tmp_path, monkeypatch):
    """A file of the server's folder ``good``, with an empty cache and no data at hand."""
    monkeypatch.setenv("SIXFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIXFOLD_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.asked.clear()
    address = f"http://127.0.0.1:{server.server_port}"
    return Remote("set", "some-idx2-ubyte.gz", len(IDX), hashlib.sha256(IDX).hexdigest(), (f"{address}/good",))


def at(remote, *folders):
    base = remote.mirrors[0].rsplit("/", 1)[0]
    return replace(remote, mirrors=tuple(f"{base}/{folder}" for folder in folders))


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_download_is_kept_and_asked_for_once(remote, server, tmp_path):
    assert payload(remote) == IDX
    assert payload(remote) == IDX
    assert len(server.asked) == 1
    assert [path.name for path in files_in(tmp_path)] == [remote.name]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("html", "no whole gzip file"),
        ("other", "wrong content: sha256"),
        ("cut", "no whole gzip file"),
        ("short", "IncompleteRead|Connection broken"),
        ("bomb", "more than"),
        ("flood", "more than the 4,120 bytes expected"),
        ("missing", "404"),
    ],
)
def test_wrong_download_leaves_nothing(remote, tmp_path, folder, reason):
    with pytest.raises(BadInput, match=reason) as error:
        payload(at(remote, folder))
    assert "SIXFOLD_DATA" in one_line(error)
    assert files_in(tmp_path) == []


def test_second_mirror_serves_when_the_first_is_wrong(remote, server):
    assert payload(at(remote, "html", "good")) == IDX
    assert len(server.asked) == 2


def test_no_network(remote, tmp_path):
    with pytest.raises(BadInput, match=r"set/some-idx2-ubyte\.gz cannot be downloaded") as error:
        payload(replace(remote, mirrors=("http://127.0.0.1:9",)))  # the discard port, where nothing listens
    assert "Check the network" in one_line(error)
    assert files_in(tmp_path) == []


def test_cache_that_cannot_be_written(remote, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(BadInput, match="Set SIXFOLD_CACHE") as error:
        payload(remote)
    one_line(error)
    assert len(files_in(tmp_path)) == 1


def test_write_that_fails_leaves_nothing(remote, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sixfold.data.fetch.os.fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        payload(remote)
    assert files_in(tmp_path) == []


def test_data_at_hand_come_first(remote, server, tmp_path, monkeypatch):
    for root, content in (("a", None), ("b", GZ)):
        (tmp_path / root / "set").mkdir(parents=True)
        if content:
            (tmp_path / root / "set" / remote.name).write_bytes(content)
    monkeypatch.setenv("SIXFOLD_DATA", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert payload(remote) == IDX
    assert server.asked == []


def test_damaged_data_at_hand_are_named(remote, server, tmp_path, monkeypatch):
    path = tmp_path / "set" / remote.name
    path.parent.mkdir()
    path.write_bytes(GZ[:20])
    monkeypatch.setenv("SIXFOLD_DATA", str(tmp_path))
    with pytest.raises(BadInput, match=str(path)):
        payload(remote)
    assert server.asked == []


def test_cache_follows_the_environment(remote, tmp_path, monkeypatch):
    monkeypatch.delenv("SIXFOLD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    payload(remote)
    assert (tmp_path / "xdg" / "sixfold" / "set" / remote.name).is_file()


@pytest.mark.parametrize("cut", range(1, len(GZ)))
def test_gzip_cut_anywhere_is_refused(cut):
    with pytest.raises(BadInput, match=r"cut\.gz is no whole gzip file"):
        gunzip(GZ[:cut], 1000, "cut.gz")


def test_gzip_bomb_is_never_unpacked():
    bomb = gzip.compress(bytes(2**26))
    tracemalloc.start()
    with pytest.raises(BadInput, match="decompresses to more than the 1,000 bytes"):
        gunzip(bomb, 1000, "bomb.gz")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_idx_reads_what_it_says():
    np.testing.assert_array_equal(read_idx(IDX, "x"), np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "starts with nothing"),
        (b"\x00\x00\x08", "no idx file"),
        (b"PK\x03\x04" + IDX, "no idx file: starts with 50 4b 03 04"),
        (b"\0\0\x0d" + IDX[3:], "idx type 0x0d; expected unsigned bytes"),
        (b"\0\0\x08\xff" + IDX[4:], "no idx file"),
        (IDX[:7], "ends within its header, after 7 of 12 bytes"),
        (IDX[:-1], "says 3 x 4 values but holds 11"),
        (IDX + b"!", "says 3 x 4 values but holds 13"),
        (IDX[:4] + struct.pack(">II", 2**32 - 1, 2**32 - 1) + IDX[12:], "says 4294967295 x 4294967295 values but holds 12"),
        (bytes([0, 0, 8, 8]) + struct.pack(">8I", *[2**32 - 1] * 8) + b"!", "but holds 1"),
    ],
)
def test_idx_header_is_compared_with_the_payload(data, reason):
    with pytest.raises(BadInput, match=reason) as error:
        read_idx(data, "some.idx")
    assert one_line(error).startswith("some.idx")

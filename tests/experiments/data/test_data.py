import functools
import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest

from experiments.data import _full, _subset, DataError, load_full, load_subset, parse_idx


pytestmark = pytest.mark.host


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def test_the_subset_is_balanced_and_distinct():
    images = load_subset()
    assert images.train_images.shape == (12_000, 28, 28)
    assert images.test_images.shape == (2_000, 28, 28)
    assert (np.bincount(images.train_labels) == 1200).all()
    assert (np.bincount(images.test_labels) == 200).all()
    assert images.train_images.dtype == images.train_labels.dtype == np.uint8
    distinct = {x.tobytes() for x in images.train_images}
    assert len(distinct) > 11_990  # the full set has a few duplicates of its own
    # The known mean and deviation of Fashion-MNIST's pixels.
    assert images.train_images.mean() / 255 == pytest.approx(0.2860, abs=0.003)
    assert images.train_images.std() / 255 == pytest.approx(0.3530, abs=0.003)
    assert _subset.SUBSET_FILE.stat().st_size < 8_000_000


def test_labels_belong_to_images():
    """A nearest-mean classifier knows: shuffled labels would leave it at a tenth."""
    images = load_subset()
    x = images.train_images.reshape(12_000, -1).astype(float)
    means = np.stack([x[images.train_labels == c].mean(axis=0) for c in range(10)])
    z = images.test_images.reshape(2_000, -1).astype(float)
    distances = ((z[:, None] - means) ** 2).sum(axis=-1)
    assert (distances.argmin(axis=1) == images.test_labels).mean() > 0.6


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_subset(tmp_path, damage):
    path = tmp_path / "subset.npz"
    content = bytearray(_subset.SUBSET_FILE.read_bytes())
    if damage == "truncated":
        content = content[:-100]
    if damage == "flipped":
        content[5000] ^= 1
    if damage != "missing":
        path.write_bytes(content)
    message = "cannot be read" if damage == "missing" else "truncated or corrupt"
    with pytest.raises(DataError, match=f"subset.npz.*{message}"):
        load_subset(path)


def test_parse_idx():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(parse_idx(idx(array), "x"), array)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not an IDX file.*nothing"),
        (b"PK\x03\x04rest", "begins with 504b0304"),
        (idx(np.zeros((2, 2)))[:6], "ends within its header"),
        # Dimensions whose product is 2^64, which wraps around to 0.
        (b"\0\0\x08\4" + b"\0\1\0\0" * 4, r"promises 18446744073709551636 bytes"),
        (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"x", "promises 255 axes, where 1 to 4"),
        (idx(np.zeros((2, 2)))[:-1], r"promises 16 bytes for shape \(2, 2\).*it has 15"),
        (idx(np.zeros((2, 2))) + b"x", "it has 17"),
    ],
)
def test_damaged_idx(content, message):
    with pytest.raises(DataError, match=message):
        parse_idx(content, "x")


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder in the form of MNIST, whose checksums the loader is told."""
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 256, (20, 28, 28)),
        "train_labels": np.arange(20) % 10,
        "test_images": rng.integers(0, 256, (10, 28, 28)),
        "test_labels": np.arange(10),
    }
    folder = tmp_path / "mnist"
    folder.mkdir()
    sums = {}
    for k, (part, array) in enumerate(arrays.items()):
        content = idx(array)
        sums[part] = hashlib.sha256(content).hexdigest()
        name = _full._PARTS[part]
        if k % 2:
            (folder / name).write_bytes(content)
        else:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setitem(_full._SHA256, "mnist", sums)
    return folder


@pytest.mark.parametrize("way", ["folder", "parent", "environment"])
def test_load_full(small_mnist, way, monkeypatch):
    folder = {"folder": small_mnist, "parent": small_mnist.parent}.get(way)
    if way == "environment":
        monkeypatch.setenv("CURVOPT_DATA", str(small_mnist))
    images = load_full("mnist", folder)
    assert images.train_images.shape == (20, 28, 28)
    np.testing.assert_array_equal(images.test_labels, np.arange(10))


def test_a_missing_part(small_mnist):
    (small_mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="mnist is not complete.*t10k-labels"):
        load_full("mnist", small_mnist)


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="data folder.*is not there"):
        load_full("mnist", tmp_path / "nowhere")


def test_a_truncated_gzip_file(small_mnist):
    path = small_mnist / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="train-images.*cannot be read.*truncated"):
        load_full("mnist", small_mnist)


def test_another_data_set_of_the_same_form(small_mnist):
    path = small_mnist / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(20)))
    with pytest.raises(DataError, match="is not the train labels of mnist.*SHA-256"):
        load_full("mnist", small_mnist)


def test_download(small_mnist, tmp_path, monkeypatch):
    """From a server on this machine, into an empty cache."""
    for path in list(small_mnist.iterdir()):
        if path.suffix != ".gz":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(small_mnist)
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setitem(_full._URLS, "mnist", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CURVOPT_DATA", raising=False)
    try:
        assert load_full("mnist").train_images.shape == (20, 28, 28)
    finally:
        server.shutdown()
        server.server_close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with pytest.raises(DataError, match="could not be downloaded.*--data-dir"):
        load_full("mnist")

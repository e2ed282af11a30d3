import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from experiments.data import _cifar, DataError, load_cifar10


pytestmark = pytest.mark.host


OFFICIAL = "CIFAR-10"
RE_ENCODED = "CIFAR-10 (JPEG re-encoded)"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Ten images a file, two and one of each class in the archive of JPEGs."""
    monkeypatch.setattr(_cifar, "_PER_FILE", 10)
    monkeypatch.setattr(_cifar, "_PER_CLASS", {"train": 5, "test": 1})
    monkeypatch.delenv("CURVOPT_DATA", raising=False)


def archive(path, members):
    with tarfile.open(path, f"w:{path.suffix[1:]}") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def records(rng):
    """Each label once, and images by channel, then by row."""
    labels = rng.permutation(10)
    images = rng.integers(0, 256, (10, 3, 32, 32))
    content = b"".join(
        bytes([label]) + image.astype(np.uint8).tobytes()
        for label, image in zip(labels, images)
    )
    return labels, images, content


@pytest.fixture
def binary():
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    return {name: records(rng) for name in names}


def write(binary, folder):
    folder.mkdir(exist_ok=True)
    for name, (_, _, content) in binary.items():
        (folder / name).write_bytes(content)


def jpeg(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=100, subsampling=0)
    return out.getvalue()


def picture(k):
    """Red by the class; green in the upper half only, so that axes cannot be mistaken."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 20 * k
    image[:16, :, 1] = 200
    return image


CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


@pytest.fixture
def pictures():
    """In an order that is not that of the names, with what else archives contain."""
    members = {"README.md": b"about", "./test/extra.txt": b"no picture"}
    for part, count in (("train", 5), ("test", 1)):
        for number in reversed(range(count)):
            for k in reversed(range(10)):
                image = picture(k)
                image[..., 2] = 40 * number
                members[f"{part}/{CLASSES[k]}/{number:04}.jpg"] = jpeg(image)
    return members


def check_official(images, binary):
    *train, test = binary.values()
    assert images.name == OFFICIAL
    labels, pixels = (np.concatenate([part[k] for part in train]) for k in (0, 1))
    np.testing.assert_array_equal(images.train_labels, labels)
    np.testing.assert_array_equal(images.train_images, pixels)
    np.testing.assert_array_equal(images.test_labels, test[0])
    np.testing.assert_array_equal(images.test_images, test[1])
    assert images.train_images.dtype == images.test_labels.dtype == np.uint8


@pytest.mark.parametrize("subfolder", ["", "cifar10", "cifar-10-batches-bin"])
def test_official_files(binary, tmp_path, subfolder, monkeypatch):
    write(binary, tmp_path / subfolder)
    check_official(load_cifar10(tmp_path), binary)
    monkeypatch.setenv("CURVOPT_DATA", str(tmp_path))
    check_official(load_cifar10(), binary)


def test_the_official_archive(binary, tmp_path):
    members = {f"cifar-10-batches-bin/{k}": x[2] for k, x in binary.items()}
    members["cifar-10-batches-bin/batches.meta.txt"] = b"airplane\n"
    archive(tmp_path / "cifar-10-binary.tar.gz", members)
    check_official(load_cifar10(tmp_path), binary)


@pytest.mark.parametrize("subfolder", ["", "cifar10-jpeg"])
def test_pictures(pictures, tmp_path, subfolder):
    (tmp_path / subfolder).mkdir(exist_ok=True)
    archive(tmp_path / subfolder / "cifar10_jpeg.tar.xz", pictures)
    images = load_cifar10(tmp_path)
    assert images.name == RE_ENCODED
    assert images.train_images.shape == (50, 3, 32, 32)
    assert images.test_images.shape == (10, 3, 32, 32)
    np.testing.assert_array_equal(images.train_labels, np.repeat(np.arange(10), 5))
    np.testing.assert_array_equal(images.test_labels, np.arange(10))
    for k, image in enumerate(images.test_images):
        expected = np.moveaxis(picture(k), -1, 0).astype(int)
        np.testing.assert_allclose(image, expected, atol=6)
    # By class, then by number.
    blue = images.train_images[:, 2].mean(axis=(1, 2)).reshape(10, 5)
    np.testing.assert_allclose(blue, np.tile(40 * np.arange(5), (10, 1)), atol=6)


def test_official_files_are_preferred(binary, pictures, tmp_path):
    archive(tmp_path / "cifar10_jpeg.tar.xz", pictures)
    write(binary, tmp_path / "cifar10")
    check_official(load_cifar10(tmp_path), binary)
    # Half of the official files are a mistake, and no reason to take other data.
    (tmp_path / "cifar10" / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"not complete.*no data_batch_3.bin\. Get"):
        load_cifar10(tmp_path)


def test_missing(tmp_path):
    with pytest.raises(DataError, match="no CIFAR-10 in .*cifar10_jpeg.tar.xz.*Put one"):
        load_cifar10(tmp_path)
    with pytest.raises(DataError, match="data folder.*nowhere is not there"):
        load_cifar10(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not downloaded.*--data-dir or CURVOPT_DATA"):
        load_cifar10()


def test_an_archive_without_a_file(binary, tmp_path):
    members = {"test_batch.bin": binary["test_batch.bin"][2]}
    archive(tmp_path / "cifar-10-binary.tar.gz", members)
    with pytest.raises(DataError, match=r"tar.gz: there is no data_batch_1.bin, .*_5.bin"):
        load_cifar10(tmp_path)


def test_damaged_official_files(binary, tmp_path):
    write(binary, tmp_path)
    path = tmp_path / "data_batch_2.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="data_batch_2.bin .* truncated .* has 30729 bytes"):
        load_cifar10(tmp_path)
    path.write_bytes(b"\x0a" + content[1:])
    with pytest.raises(DataError, match="data_batch_2.bin .* below 10, but one is 10"):
        load_cifar10(tmp_path)
    other = (content[0] + 1) % 10
    path.write_bytes(bytes([other]) + content[1:])
    with pytest.raises(
        DataError, match=r"CIFAR-10 is incomplete.*5 images.*train.*4.*6|6.*4"
    ):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar10_jpeg.tar.xz"])
def test_a_damaged_archive(pictures, tmp_path, name):
    path = tmp_path / name
    archive(path, pictures)
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    for damaged in (content[:middle], flipped, b"<html>not found</html>", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{name} cannot be read.*get it again"):
            load_cifar10(tmp_path)


BAD_PICTURES = {
    "no JPEG": (b"text", "bird/0003.jpg in .* cannot be decoded"),
    "truncated": (jpeg(picture(2))[:-300], "bird/0003.jpg in .* cannot be decoded"),
    "grey": (jpeg(picture(2)[..., 0]), r"bird/0003.jpg in .* shape is \(32, 32\)"),
    "large": (jpeg(np.zeros((33, 32, 3), np.uint8)), r"0003.jpg .* shape is \(33, 32, 3\)"),
    "missing": (None, r"re-encoded\) is incomplete.*train.*\[5, 5, 4, 5"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures(pictures, tmp_path, case):
    content, message = BAD_PICTURES[case]
    del pictures["train/bird/0003.jpg"]
    if content is not None:
        pictures["train/bird/0003.jpg"] = content
    archive(tmp_path / "cifar10_jpeg.tar.xz", pictures)
    with pytest.raises(DataError, match=message):
        load_cifar10(tmp_path)


def test_an_unknown_class(pictures, tmp_path):
    pictures["test/zebra/0000.jpg"] = jpeg(picture(0))
    archive(tmp_path / "cifar10_jpeg.tar.xz", pictures)
    with pytest.raises(DataError, match="unknown classes in test: zebra.*airplane"):
        load_cifar10(tmp_path)

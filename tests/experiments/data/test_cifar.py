import gzip
import io
import lzma
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from experiments.data import _cifar, _idx, DataError, load_cifar10


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


def promising(content, height, width):
    """A JPEG whose header says another size."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def ppm(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PPM")
    return out.getvalue()


BAD_PICTURES = {
    "no JPEG": (b"text", "bird/0003.jpg in .* cannot be decoded"),
    "truncated": (jpeg(picture(2))[:-300], "bird/0003.jpg in .* cannot be decoded"),
    "grey": (jpeg(picture(2)[..., 0]), r"bird/0003.jpg in .* 32 pixels .* its mode L"),
    "large": (jpeg(np.zeros((33, 32, 3), np.uint8)), r"0003.jpg .* size is \(32, 33\)"),
    "huge": (promising(jpeg(picture(2)), 10_000, 10_000), r"size is \(10000, 10000\)"),
    "a bomb": (promising(jpeg(picture(2)), 65_000, 65_000), "not be decoded: Image size"),
    "another format": (ppm(picture(2)), "bird/0003.jpg in .* cannot be decoded"),
    "missing": (None, r"re-encoded\) is incomplete.*train.*\[5, 5, 4, 5"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_pictures(pictures, tmp_path, case):
    content, message = BAD_PICTURES[case]
    del pictures["train/bird/0003.jpg"]
    if content is not None:
        pictures["train/bird/0003.jpg"] = content
    archive(tmp_path / "cifar10_jpeg.tar.xz", pictures)
    with pytest.raises(DataError, match=message):
        load_cifar10(tmp_path)


def link(kind, target):
    def change(member):
        member.type, member.linkname, member.size = kind, target, 0

    return change


def sparse(member):
    """A file of one byte that says it has 2^40, the others zeros."""
    member.pax_headers = {"GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,1"}


BAD_MEMBERS = {
    "a symbolic link": ("train/bird/9.jpg", link(tarfile.SYMTYPE, "0001.jpg"), "a link"),
    "one to nothing": ("train/bird/9.jpg", link(tarfile.SYMTYPE, "/etc/none"), "a link"),
    "a hard link": ("train/bird/9.jpg", link(tarfile.LNKTYPE, "README.md"), "a link"),
    "a device": ("train/bird/9.jpg", link(tarfile.CHRTYPE, ""), "no plain file"),
    "its own folder": (".", lambda member: None, "outside the archive's own folder"),
    "absolute": ("/train/bird/9.jpg", lambda member: None, "outside the archive's own"),
    "above": ("train/../../9.jpg", lambda member: None, "outside the archive's own"),
    "sparse": ("train/bird/9.jpg", sparse, "1099511627776 bytes, more than the whole"),
}


@pytest.mark.parametrize("case", BAD_MEMBERS)
@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar10_jpeg.tar.xz"])
def test_bad_members(pictures, tmp_path, name, case):
    path, change, message = BAD_MEMBERS[case]
    with tarfile.open(tmp_path / name, f"w:{name[-2:]}", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo(path)
        member.size = 1
        change(member)
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(DataError, match=f"{name} is not .*{path!r} is .*{message}"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar10_jpeg.tar.xz"])
def test_what_unpacks_to_too_much(tmp_path, name, monkeypatch):
    monkeypatch.setattr(_idx, "_LARGEST", 2**20)
    pack = gzip.compress if name.endswith("gz") else lzma.compress
    (tmp_path / name).write_bytes(pack(bytes(2**20 + 1)))
    with pytest.raises(DataError, match=f"{name} has more than 1048576 bytes"):
        load_cifar10(tmp_path)


def test_an_unknown_class(pictures, tmp_path):
    pictures["test/zebra/0000.jpg"] = jpeg(picture(0))
    archive(tmp_path / "cifar10_jpeg.tar.xz", pictures)
    with pytest.raises(DataError, match="unknown classes in test: zebra.*airplane"):
        load_cifar10(tmp_path)

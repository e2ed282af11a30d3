"""CIFAR-10, from a folder of the user's."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from ._folder import data_folder, find_file
from ._idx import DataError, read_bytes
from ._images import Images


# In the order of their labels, which is the alphabetical one.
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_SHAPE = (3, 32, 32)
_PER_FILE = 10_000
_PER_CLASS = {"train": 5_000, "test": 1_000}

_SUBFOLDERS = ("cifar10", "cifar10-jpeg", "cifar-10-batches-bin")
_TEST_FILE = "test_batch.bin"
_TRAIN_FILES = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
_BINARY = "cifar-10-binary.tar.gz"
_JPEG = "cifar10_jpeg.tar.xz"

_Part = tuple[UInt8[np.ndarray, "n 3 32 32"], UInt8[np.ndarray, " n"]]


def _find(folder: Path, file: str) -> Path | None:
    found = (find_file(folder, subfolder, file) for subfolder in _SUBFOLDERS)
    return next((path for path in found if path is not None), None)


def _members(path: Path) -> dict[PurePosixPath, bytes]:
    """The files in a compressed tar archive."""
    # All of it first: a tar archive in which something is damaged may seem to end there,
    # before the checksum at the end of the compressed stream has been met.
    content = read_bytes(path)
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                _check_member(path, member, len(content))
                file = archive.extractfile(member)
                assert file is not None
                found[PurePosixPath(member.name)] = file.read()
    except tarfile.TarError as error:
        raise DataError(
            f"{path} cannot be read: {error}. It may be truncated or corrupt; get it again."
        ) from error
    return found


def _check_member(path: Path, member: tarfile.TarInfo, size: int) -> None:
    """Refuse a member that is no plain file inside the archive's own folder."""
    name = PurePosixPath(member.name)
    if not member.isfile():
        why = "a link" if member.islnk() or member.issym() else "no plain file"
    elif name.is_absolute() or ".." in name.parts or not name.parts:
        why = "outside the archive's own folder"
    elif member.size > size:  # a sparse file may promise any size
        why = f"promised to have {member.size} bytes, more than the whole archive"
    else:
        return
    raise DataError(
        f"{path} is not the archive of CIFAR-10: its member {member.name!r} is {why}. Get "
        "it again."
    )


def _official(folder: Path) -> dict[str, bytes] | None:
    """The files of the official binary version by name, or `None` if there are none."""
    wanted = (*_TRAIN_FILES, _TEST_FILE)
    paths = {file: _find(folder, file) for file in wanted}
    files = {file: read_bytes(path) for file, path in paths.items() if path is not None}
    source = folder
    if not files:
        archive = _find(folder, _BINARY)
        if archive is None:
            return None
        source, members = archive, _members(archive)
        files = {path.name: content for path, content in members.items()}
    missing = [file for file in wanted if file not in files]
    if missing:
        raise DataError(
            f"CIFAR-10 is not complete in {source}: there is no {', '.join(missing)}. Get "
            f"{_BINARY} again."
        )
    return files


def _parsed(files: Mapping[str, bytes], names: Iterable[str]) -> _Part:
    """Records of a byte for the label and the image, one channel after another."""
    length = 1 + int(np.prod(_SHAPE))
    parts = []
    for name in names:
        content = files[name]
        if len(content) != _PER_FILE * length:
            raise DataError(
                f"{name} of CIFAR-10 is truncated or corrupt: {_PER_FILE} images of "
                f"{length} bytes are expected, but it has {len(content)} bytes. Get "
                f"{_BINARY} again."
            )
        parts.append(np.frombuffer(content, np.uint8).reshape(_PER_FILE, length))
        label = parts[-1][:, 0].max()
        if label >= len(CLASSES):
            raise DataError(
                f"{name} of CIFAR-10 is corrupt, or of another data set: labels are below "
                f"{len(CLASSES)}, but one is {label}. Get {_BINARY} again."
            )
    records = np.concatenate(parts)
    return records[:, 1:].reshape(-1, *_SHAPE), records[:, 0].copy()


def _decoded(archive: Path, members: Mapping[PurePosixPath, bytes], part: str) -> _Part:
    """The JPEG images of a part, class by class."""
    from PIL import Image

    chosen = sorted(p for p in members if p.parts[0] == part and p.suffix == ".jpg")
    images = np.empty((len(chosen), *_SHAPE), np.uint8)
    for k, path in enumerate(chosen):
        try:
            with Image.open(io.BytesIO(members[path]), formats=["JPEG"]) as image:
                # Before it is decoded: a few bytes can promise a picture of any size.
                if image.size != (32, 32) or image.mode != "RGB":
                    raise DataError(
                        f"{path} in {archive} is not an image of 32 x 32 pixels in colour: "
                        f"its size is {image.size} and its mode {image.mode}. Get the "
                        "archive again."
                    )
                images[k] = np.moveaxis(np.asarray(image), -1, 0)
        except (OSError, Image.DecompressionBombError) as error:
            raise DataError(
                f"{path} in {archive} cannot be decoded: {error}. Get the archive again."
            ) from error
    unknown = {path.parent.name for path in chosen} - set(CLASSES)
    if unknown:
        raise DataError(
            f"{archive} has unknown classes in {part}: {', '.join(sorted(unknown))}. Those "
            f"of CIFAR-10 are: {', '.join(CLASSES)}."
        )
    labels = [CLASSES.index(path.parent.name) for path in chosen]
    return images, np.array(labels, np.uint8)


def _check_labels(images: Images) -> None:
    for part, labels in (("train", images.train_labels), ("test", images.test_labels)):
        counts = np.bincount(labels, minlength=len(CLASSES)).tolist()
        expected = _PER_CLASS[part]
        if counts != [expected] * len(CLASSES):
            raise DataError(
                f"{images.name} is incomplete or corrupt: {expected} images of each class "
                f"are expected in {part}, but there are {counts}. Get it again."
            )


def load_cifar10(folder: Path | None = None) -> Images:
    """Load CIFAR-10: 50,000 + 10,000 images in colour, of 32 x 32 pixels, in ten classes
    (Krizhevsky 2009).

    Two versions are known. The official binary one, which is taken where it is there, is
    `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, or the archive with
    these, `cifar-10-binary.tar.gz`; its name is "CIFAR-10". The other,
    `cifar10_jpeg.tar.xz` with `train/CLASS/NUMBER.jpg` and `test/CLASS/NUMBER.jpg`, holds
    the same images with the losses of JPEG, here sorted by class; its name is "CIFAR-10
    (JPEG re-encoded)". They are decoded at each call, which takes about ten seconds.

    **Arguments:**

    - `folder`: where the files are, directly or in a subfolder `cifar10`, `cifar10-jpeg`
        or `cifar-10-batches-bin`. Default: the environment variable `CURVOPT_DATA`.
        Nothing is downloaded.

    **Returns:**

    An [`experiments.data.Images`][], of shape `(3, 32, 32)`.

    **Raises:**

    `DataError` if a file is missing, truncated or corrupt, by the lengths of files, the
    checksums of compressed archives and the number of images of each class.
    """
    folder = data_folder(folder)
    if folder is None:
        raise DataError(
            f"CIFAR-10 is not downloaded. Put {_BINARY}, or {_JPEG}, into a folder and "
            "name it with --data-dir or CURVOPT_DATA."
        )
    files = _official(folder)
    archive = _find(folder, _JPEG)
    if files is not None:
        name, train = "CIFAR-10", _parsed(files, _TRAIN_FILES)
        test = _parsed(files, (_TEST_FILE,))
    elif archive is not None:
        members = _members(archive)
        name, train = "CIFAR-10 (JPEG re-encoded)", _decoded(archive, members, "train")
        test = _decoded(archive, members, "test")
    else:
        raise DataError(
            f"there is no CIFAR-10 in {folder}: neither {_TRAIN_FILES[0]} nor {_BINARY} "
            f"nor {_JPEG}, there or in a subfolder {', '.join(_SUBFOLDERS)}. Put one of "
            "them there."
        )
    images = Images(name, *train, *test)
    _check_labels(images)
    return images

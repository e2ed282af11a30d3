"""A study on disk. Files are complete or not there at all; what is finished is not touched
again."""

import dataclasses
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np

from ._execution import Choice


_FORMAT = 1


class StudyError(RuntimeError):
    """A study cannot be saved, or what was saved cannot be used; with the remedy."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A group of lanes, as far as it came.

    **Attributes:**

    - `step`: how many steps were made.
    - `seconds`: how long they took.
    - `state`: the arrays of the lanes.
    - `history`: by name, arrays of shape `(lanes, step)`.
    - `evaluations`: by name, arrays of shape `(lanes, evaluations made)`.
    """

    step: int
    seconds: float
    state: list[np.ndarray]
    history: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]


def _write(path: Path, write: Any) -> None:
    """Write a file whole: beside its place first, then moved there."""
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        try:
            partial.unlink(missing_ok=True)
        except OSError:
            pass
        raise StudyError(
            f"{path} cannot be written: {error}. What was saved before is intact: when "
            "there is room and permission, the same study goes on from there."
        ) from error


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # Of a dtype that NumPy's files do not know (bfloat16) the bytes.
    plain = lambda x: x if x.dtype.kind in "biuf" else x[..., None].view(np.uint8)
    _write(path, lambda file: np.savez(file, **{k: plain(x) for k, x in arrays.items()}))


def _damaged(path: Path, error: Exception) -> StudyError:
    return StudyError(
        f"{path} is damaged ({error}). Delete the folder {path.parent} and run the same "
        "study again: only what is in it starts anew."
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `_write_arrays` wrote; every part has a checksum."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def _write_json(path: Path, value: Any) -> None:
    _write(path, lambda file: file.write(json.dumps(value, indent=1).encode()))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 160 else f"{text[:157]}..."


def _agree(path: Path, configuration: Mapping[str, Any], what: str) -> None:
    """Save a configuration, or refuse if another one is there.

    **Raises:**

    `StudyError` naming what differs.
    """
    configuration = json.loads(json.dumps({"format": _FORMAT, **configuration}))
    if not path.exists():
        _write_json(path, configuration)
        return
    known = _read_json(path)
    for name in dict.fromkeys([*known, *configuration]):
        was, now = known.get(name), configuration.get(name)
        if was != now:
            raise StudyError(
                f"{path.parent} holds {what} with other {name}: it was {_short(was)}, "
                f"now it is {_short(now)}. Go on as before, or choose another folder, or "
                "delete this one."
            )


class GroupFolder:
    """One group of lanes: `state.npz`, and a piece of its records for each time that it
    was saved, `steps-FIRST-LAST.npz`. A piece is written before the state that goes with
    it: one beyond the state is of no use, and replaced."""

    def __init__(self, path: Path):
        self._path = path

    def _pieces(self) -> dict[tuple[int, int], Path]:
        names = (p for p in self._path.glob("steps-*.npz"))
        parts = ((re.fullmatch(r"steps-(\d+)-(\d+)", p.stem), p) for p in names)
        return {(int(m[1]), int(m[2])): p for m, p in parts if m}

    def load(self, like: list[np.ndarray]) -> Saved | None:
        """What was saved last, if anything was.

        **Arguments:**

        - `like`: the arrays of the lanes, for their dtypes.
        """
        path = self._path / "state.npz"
        if not path.exists():
            return None
        arrays = _read_arrays(path)
        step = int(arrays["step"])
        try:
            state = [
                np.squeeze(x.view(z.dtype), -1) if x.dtype != z.dtype else x
                for x, z in ((arrays[f"lane_{k}"], z) for k, z in enumerate(like))
            ]
        except (KeyError, ValueError) as error:
            raise StudyError(
                f"{path} is of other lanes ({error}). Delete the folder {self._path} and "
                "run the same study again."
            ) from error
        pieces, at = [], 0
        for (first, last), piece in sorted(self._pieces().items()):
            if first == at and last <= step:
                pieces.append(_read_arrays(piece))
                at = last
        if at != step:
            raise StudyError(
                f"{self._path} has records of {at} steps, but a state after {step}. Delete "
                "the folder and run the same study again: only its lanes start anew."
            )
        join = lambda kind: {
            name.removeprefix(kind): np.concatenate([p[name] for p in pieces], axis=1)
            for name in (pieces[0] if pieces else {})
            if name.startswith(kind)
        }
        return Saved(
            step, float(arrays["seconds"]), state, join("history_"), join("evaluation_")
        )

    def save(self, first: int, saved: Saved) -> None:
        """Save a group, with the records of what was made since it was saved last.

        **Arguments:**

        - `first`: at which step it was saved last.
        - `saved`: the group; of its records only what is new.

        **Raises:**

        `StudyError` if that is not possible.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            stale = [p for (_, last), p in self._pieces().items() if last > first]
            for path in (*stale, *self._path.glob(".partial-*")):
                path.unlink()
        except OSError as error:
            raise StudyError(f"{self._path} cannot be written: {error}.") from error
        records = {
            **{f"history_{name}": x for name, x in saved.history.items()},
            **{f"evaluation_{name}": x for name, x in saved.evaluations.items()},
        }
        _write_arrays(self._path / f"steps-{first:09d}-{saved.step:09d}.npz", records)
        state = {f"lane_{k}": x for k, x in enumerate(saved.state)}
        numbers = {"step": np.array(saved.step), "seconds": np.array(saved.seconds)}
        _write_arrays(self._path / "state.npz", {**state, **numbers})


class StrategyFolder:
    """What was saved of one strategy."""

    def __init__(self, path: Path):
        self._path = path

    def choice(self) -> Choice | None:
        """How its lanes are run, if that was chosen."""
        path = self._path / "execution.json"
        if not path.exists():
            return None
        try:
            return Choice(**_read_json(path))
        except TypeError as error:
            raise _damaged(path, error) from error

    def save_choice(self, choice: Choice) -> None:
        _write_json(self._path / "execution.json", dataclasses.asdict(choice))

    def check_program(self, fingerprint: str) -> None:
        """Refuse if the compiled program is not the one that was begun with."""
        _agree(
            self._path / "program.json",
            {"program (code of the loss, the evaluation or the strategy)": fingerprint},
            "a strategy",
        )

    def group(self, index: int) -> GroupFolder:
        return GroupFolder(self._path / f"group-{index}")


class StudyFolder:
    """Where a study is saved: a context, within which no other process can use it.

    **Arguments:**

    - `path`: the folder; made if it is not there.
    - `configuration`: what must be the same for the study to go on.

    **Raises:**

    `StudyError` if it cannot be written to, or holds another study.
    """

    def __init__(self, path: str | os.PathLike, configuration: Mapping[str, Any]):
        self._path = Path(path)
        probe = self._path / f".writable-{os.getpid()}"
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StudyError(
                f"the folder {self._path} of the study is not writable: {error}. Choose "
                "another."
            ) from error
        self._configuration = configuration

    def __enter__(self) -> "StudyFolder":
        # The system lets go of it when the process ends, however that ends.
        self._lock = filelock.FileLock(self._path / f".lock-{jax.process_index()}")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise StudyError(
                f"another process runs a study in {self._path}. Wait for it, or choose "
                "another folder."
            ) from error
        try:
            _agree(self._path / "study.json", self._configuration, "a study")
        except StudyError:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def strategy(self, name: str, configuration: Mapping[str, Any]) -> StrategyFolder:
        """The folder of a strategy."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40]
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        path = self._path / f"{slug}-{digest}"
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise StudyError(f"{path} cannot be made: {error}.") from error
        _agree(path / "strategy.json", {"name": name, **configuration}, "a strategy")
        return StrategyFolder(path)

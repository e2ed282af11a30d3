"""A study on disk: SQLite files, to which each save is one transaction.

In the folder of a study, `study.sqlite` holds the description of the study and the runs of
the first process; further processes write theirs to `study-1.sqlite` and so on. Each file
has three tables, and every row has a checksum:

- `document`: JSON texts by key. `study` describes the problem, `strategy/NAME` a strategy,
    `cohort/N` which runs were begun together and how they are run, `layout/NAME` the
    columns of records and the arrays of states, `costs/NAME` and `seconds/NAME` what runs
    cost, and `reported/N` and `stopped/N` the calls of `on_evaluation`;
- `records`: what each run recorded, piece by piece, as packed rows of numbers;
- `state`: the arrays from which each run resumes, its parameters first.
"""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import filelock
import numpy as np


# "curv", in the header of each file, and the version of the format.
_APPLICATION, FORMAT = 0x63757276, 2

# The most bytes in one row of `state`: SQLite's limit for a value is 10⁹ bytes.
_PART = 2**28

_TABLES = """
CREATE TABLE document (key TEXT PRIMARY KEY, text TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE records (
    cohort INTEGER, run INTEGER, first INTEGER, last INTEGER,
    steps BLOB NOT NULL, evaluations BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (cohort, run, first)
);
CREATE TABLE state (
    cohort INTEGER, run INTEGER, part INTEGER, step INTEGER,
    data BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (cohort, run, part)
);
"""


class StudyError(RuntimeError):
    """A study that cannot be saved, or whose saved files cannot be used."""


class DamagedRun(StudyError):
    """A run whose saved records or state are damaged."""

    def __init__(self, path: Path, cohort: int, run: int, what: str):
        super().__init__(
            f"{path} is damaged: {what} of run {run} of cohort {cohort}. Restore a sound "
            "copy, or rerun it: `rerun_damaged=True` drops what was saved of damaged runs, "
            "and of no others."
        )
        self.cohort, self.run = cohort, run


class Piece(NamedTuple):
    """What a run recorded between two saves, and its state at the second.

    **Attributes:**

    - `run`: its number in the cohort.
    - `first`, `last`: how many steps it had made at the last save, and has made now.
    - `steps`, `evaluations`: structured arrays.
    - `state`: the arrays of its lane.
    """

    run: int
    first: int
    last: int
    steps: np.ndarray
    evaluations: np.ndarray
    state: Sequence[np.ndarray]


def _sum(*parts: object) -> int:
    total = 0
    for part in parts:
        data = part if isinstance(part, (bytes, memoryview)) else f"{part};".encode()
        total = zlib.crc32(data, total)
    return total


class _File:
    """One SQLite file of a study.

    **Arguments:**

    - `path`: the path of the file.
    - `study`: the identifier of its study; a new file gets it.
    - `write`: whether to write, or only to read.
    """

    def __init__(self, path: Path, *, study: str | None, write: bool):
        self.path = path
        self._lock = threading.Lock()  # groups are saved by threads of their own
        self._copy: tempfile.TemporaryDirectory | None = None
        # A process killed before its first transaction leaves an empty file.
        new = write and not (path.exists() and path.stat().st_size)
        with self._errors():
            self._connect(write)
            if new:
                self._create(study or uuid.uuid4().hex)
        self._check(study)
        self._identity = _identity(path)

    def _connect(self, write: bool) -> None:
        mode = "rwc" if write else "ro"
        try:
            self._db = self._opened(self.path, mode)
        except sqlite3.OperationalError:
            if write or not self.path.with_name(f"{self.path.name}-journal").exists():
                raise
            # A process was killed within a transaction. It is rolled back in a copy, since
            # the disk may be read-only.
            self._copy = tempfile.TemporaryDirectory(prefix="curvopt-")
            for path in self.path.parent.glob(f"{self.path.name}*"):
                shutil.copy(path, self._copy.name)
            self._db = self._opened(Path(self._copy.name) / self.path.name, "rwc")

    def _opened(self, path: Path, mode: str) -> sqlite3.Connection:
        db = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={mode}",
            uri=True,
            timeout=60.0,
            isolation_level=None,  # transactions begin and end here, not in Python's module
            check_same_thread=False,
        )
        db.execute("PRAGMA synchronous = EXTRA")  # the folder is synced as well
        # SQLite opens the file when it first reads it: an error should come here.
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return db

    def _create(self, study: str) -> None:
        # First: it has no effect once there is a table.
        self._db.execute("PRAGMA page_size = 8192")
        with self._transaction():
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._put("file", {"study": study})

    def _check(self, study: str | None) -> None:
        """Raise unless this is a sound file of the study."""
        with self._errors():
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if application != _APPLICATION:
                raise StudyError(
                    f"{self.path} is not a study of curvopt. Choose another folder."
                )
            if version != FORMAT:
                raise StudyError(
                    f"{self.path} has format {version} of curvopt's studies, but this "
                    f"version reads and writes format {FORMAT}. Open it with the version "
                    "that made it, or choose another folder."
                )
            (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise self._damaged(verdict)
        self.study = (self.document("file") or {}).get("study")
        if study is not None and self.study != study:
            raise StudyError(
                f"{self.path} belongs to another study than study.sqlite in the same "
                "folder. Move it away: a folder holds one study."
            )

    def _damaged(self, what: object) -> StudyError:
        return StudyError(
            f"{self.path} is damaged ({what}). Restore a sound copy, or recover what is "
            f"left with SQLite's own `sqlite3 {self.path.name} .recover`."
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into [`curvopt.StudyError`][]."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StudyError(
                f"{self.path} cannot be used: {error}. What was saved before is intact: "
                "once there is space and permission, the same study resumes from there."
            ) from error
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise self._damaged(error) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE takes the write lock now, not at the first write within the transaction.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A context that saves all that is put within it, or nothing."""
        with self._lock, self._errors():
            if _identity(self.path) != self._identity:
                raise StudyError(
                    f"{self.path} was removed or replaced while the study ran: what it had "
                    "saved there is lost. Run it again."
                )
            with self._transaction():
                yield

    def close(self) -> None:
        self._db.close()
        if self._copy is not None:
            self._copy.cleanup()

    def _put(self, key: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False)
        row = (key, text, _sum(key, text))
        # Not REPLACE, which would move the row to the end: their order is that of adding.
        self._db.execute(
            "INSERT INTO document VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "text = excluded.text, sum = excluded.sum",
            row,
        )

    def put(self, key: str, value: Any) -> None:
        """Put a document; within `writing`."""
        self._put(key, value)

    def document(self, key: str) -> Any | None:
        """A document; `None` if there is none."""
        found = self.documents(key)
        return found.get(key)

    def documents(self, prefix: str) -> dict[str, Any]:
        """The documents whose keys begin with `prefix`, in the order of adding."""
        found = {}
        with self._lock, self._errors():
            rows = self._db.execute("SELECT key, text, sum FROM document ORDER BY rowid")
            for key, text, total in rows:
                if _sum(key, text) != total:
                    raise self._damaged(f"the document {key!r}")
                if key.startswith(prefix):
                    found[key] = json.loads(text)
        return found

    def put_piece(self, cohort: int, piece: Piece) -> None:
        """Put a piece of a run, and replace its state; within `writing`."""
        at = (cohort, piece.run)
        steps, evaluations = piece.steps.tobytes(), piece.evaluations.tobytes()
        span = (*at, piece.first, piece.last)
        row = (*span, steps, evaluations, _sum(*span, steps, evaluations))
        self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._db.execute("DELETE FROM state WHERE cohort = ? AND run = ?", at)
        # Flat, because NumPy cannot view an array without axes as bytes.
        data = b"".join(np.ravel(x).view(np.uint8).data for x in piece.state)
        # Rounded up; an empty state has one part too.
        for part in range(max(1, -(-len(data) // _PART))):
            own = data[part * _PART : (part + 1) * _PART]
            key = (*at, part, piece.last)
            # Each checksum covers the whole length, so that a missing part is noticed.
            row = (*key, own, _sum(*key, len(data), own))
            self._db.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?)", row)

    def records(self, cohort: int) -> Iterator[tuple[int, int, int, bytes, bytes]]:
        """The pieces of each run of a cohort: run, first, last, steps, evaluations.

        **Raises:**

        [`DamagedRun`][] on reaching a damaged one.
        """
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT * FROM records WHERE cohort = ? ORDER BY run, first", (cohort,)
            )
            for _, run, first, last, steps, evaluations, total in rows:
                if _sum(cohort, run, first, last, steps, evaluations) != total:
                    raise DamagedRun(self.path, cohort, run, "the records")
                yield run, first, last, steps, evaluations

    def state_step(self, cohort: int) -> dict[int, int]:
        """The number of steps made at the saved state of each run of a cohort."""
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT run, step FROM state WHERE cohort = ? AND part = 0", (cohort,)
            )
            return dict(rows.fetchall())

    def state(self, cohort: int, run: int) -> bytes:
        """The arrays of a run's lane as bytes, one after another."""
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT part, step, data, sum FROM state WHERE cohort = ? AND run = ? "
                "ORDER BY part",
                (cohort, run),
            ).fetchall()
        data = b"".join(row[2] for row in rows)
        for k, (part, step, own, total) in enumerate(rows):
            key = (cohort, run, part, step)
            if part != k or _sum(*key, len(data), own) != total:
                raise DamagedRun(self.path, cohort, run, "the state")
        return data

    def drop(self, cohort: int, run: int) -> None:
        """Forget a run; within `writing`."""
        for table in ("records", "state"):
            self._db.execute(
                f"DELETE FROM {table} WHERE cohort = ? AND run = ?", (cohort, run)
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def folder_path(folder: str | os.PathLike) -> Path:
    """The folder of a study, with `~` expanded.

    **Raises:**

    `ValueError` if it is not a path.
    """
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise ValueError(
            f"folder must be the path of a folder, such as 'results/mine', but it is "
            f"{folder!r}."
        )
    return Path(folder).expanduser()


def _lock(path: Path, process: int) -> filelock.FileLock:
    # The operating system releases the lock when the process ends, even if it is killed.
    lock = filelock.FileLock(path / f".lock-{process}")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise StudyError(
            f"another process is running a study in {path}. Wait until it ends, or choose "
            "another folder."
        ) from error
    return lock


class Store:
    """The folder of a study, as a context manager.

    **Arguments:**

    - `folder`: its path; it is made unless `process` is `None`.
    - `process`: the index of this process; `None` to read only.

    **Raises:**

    [`curvopt.StudyError`][] if it cannot be used, is of another format, or damaged.
    """

    def __init__(self, folder: str | os.PathLike, process: int | None = None):
        self.path, self._process = folder_path(folder), process

    def __enter__(self) -> "Store":
        with contextlib.ExitStack() as stack:
            if self._process is not None:
                self._make()
                stack.callback(_lock(self.path, self._process).release)
            if (self.path / "study.json").exists():
                raise StudyError(
                    f"{self.path} holds a study of curvopt 0.1, in format 1, which this "
                    "version does not read. Choose another folder, or open it with 0.1."
                )
            first = self.path / "study.sqlite"
            if self._process is None and not first.exists():
                raise StudyError(
                    f"there is no study in {self.path}: it has no study.sqlite."
                )
            self._files = []
            own = self._process or 0
            main = _File(first, study=None, write=self._process == 0)
            self._add(stack, main)
            for path in sorted(self.path.glob("study-*.sqlite")):
                if re.fullmatch(r"study-\d+", path.stem) and path != self._path_of(own):
                    self._add(stack, _File(path, study=main.study, write=False))
            self._own = main
            if own:
                self._own = _File(self._path_of(own), study=main.study, write=True)
                self._add(stack, self._own)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _add(self, stack: contextlib.ExitStack, file: _File) -> None:
        stack.callback(file.close)
        self._files.append(file)

    def _path_of(self, process: int) -> Path:
        return self.path / (f"study-{process}.sqlite" if process else "study.sqlite")

    def _make(self) -> None:
        probe = self.path / f".writable-{os.getpid()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StudyError(
                f"the folder {self.path} of the study is not writable: {error}. Choose "
                "another folder."
            ) from error

    @property
    def study(self) -> Any | None:
        """The document of the study; `None` if there is none yet."""
        return self._files[0].document("study")

    def strategies(self) -> dict[str, Any]:
        """The strategies by name, in the order of adding."""
        found = self._files[0].documents("strategy/")
        return {key.removeprefix("strategy/"): value for key, value in found.items()}

    def cohorts(self) -> dict[int, Any]:
        """The cohorts by number."""
        found = self._files[0].documents("cohort/")
        return {int(key.removeprefix("cohort/")): value for key, value in found.items()}

    def put(self, documents: Mapping[str, Any]) -> None:
        """Put documents by key, all of them or none."""
        with self._own.writing():
            for key, value in documents.items():
                self._own.put(key, value)

    def save(
        self, cohort: int, pieces: Sequence[Piece], documents: Mapping[str, Any]
    ) -> None:
        """Save new pieces of a cohort's runs, with documents about them."""
        with self._own.writing():
            for piece in pieces:
                self._own.put_piece(cohort, piece)
            for key, value in documents.items():
                self._own.put(key, value)

    def found(self, key: str) -> list[Any]:
        """A document from the files of all processes that have it."""
        documents = (file.document(key) for file in self._files)
        return [document for document in documents if document is not None]

    def own(self, key: str) -> Any | None:
        """A document from the file of this process."""
        return self._own.document(key)

    def records(self, cohort: int) -> Iterator[tuple[int, int, int, bytes, bytes]]:
        """The pieces of a cohort's runs, with those of each run in order.

        **Raises:**

        [`DamagedRun`][] if one is damaged, or missing.
        """
        pieces = [piece for file in self._files for piece in file.records(cohort)]
        steps: dict[int, int] = {}
        for file in self._files:
            for run, step in file.state_step(cohort).items():
                steps[run] = max(step, steps.get(run, 0))
        reached = dict.fromkeys(steps, 0)
        pieces.sort(key=lambda piece: piece[:2])
        for run, first, last, _, _ in pieces:
            if reached.get(run, -1) != first:
                raise DamagedRun(self.path, cohort, run, f"a piece before step {first}")
            reached[run] = last
        for run, step in steps.items():
            if reached[run] != step:
                raise DamagedRun(
                    self.path, cohort, run, f"a piece after step {reached[run]}"
                )
        yield from pieces

    def state(self, cohort: int, run: int) -> bytes:
        """The arrays of a run's lane at its last save, as bytes."""
        at = {k: file.state_step(cohort).get(run, -1) for k, file in enumerate(self._files)}
        return self._files[max(at, key=lambda k: at[k])].state(cohort, run)

    def drop(self, cohort: int, run: int) -> None:
        """Forget a run, in the files of all processes."""
        for file in self._files:
            # The files of other processes are open for reading only.
            other = file if file is self._own else _File(file.path, study=None, write=True)
            with other.writing():
                other.drop(cohort, run)
            if other is not file:
                other.close()


def delete_study(folder: str | os.PathLike) -> None:
    """Delete the study in a folder, and nothing else there.

    A folder without a study is left as it is.

    **Raises:**

    [`curvopt.StudyError`][] if a process is running the study.
    """
    path = folder_path(folder)
    found = [
        file
        for file in path.glob("study*.sqlite")
        if re.fullmatch(r"study(-\d+)?", file.stem) and _is_ours(file)
    ]
    if not found:
        return
    locks = {0, *(int(file.stem.partition("-")[2] or 0) for file in found)}
    with contextlib.ExitStack() as stack:
        for process in locks:
            stack.callback(_lock(path, process).release)
        for file in found:
            file.with_name(f"{file.name}-journal").unlink(missing_ok=True)
            file.unlink(missing_ok=True)
        for process in locks:
            (path / f".lock-{process}").unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    with open(path, "rb") as file:
        header = file.read(100)
    # SQLite's header has the application's id at this offset.
    return header[68:72] == _APPLICATION.to_bytes(4, "big")

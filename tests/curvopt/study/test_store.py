"""A study on disk: nothing that was saved is taken for something else, whatever happens."""

import os
import shutil
import sqlite3

import filelock
import numpy as np
import pytest
from test_resume import (
    assert_same,
    saved as saved,
    STRATEGIES,
    study,
)

import curvopt
from curvopt._study import _store


pytestmark = pytest.mark.host


def test_a_thousand_runs_are_one_file(saved):
    folder, _ = saved
    assert {path.name for path in folder.iterdir()} == {"study.sqlite", ".lock-0"}


def test_flipped_bits_are_found_or_harmless(saved, tmp_path):
    """Anywhere in the file: in numbers, in what says how many there are, in the database's
    own pages."""
    folder, whole = saved
    raw, rng = (folder / "study.sqlite").read_bytes(), np.random.default_rng(0)
    broken, found = tmp_path / "broken", 0
    broken.mkdir()
    for at in rng.integers(len(raw), size=60).tolist():
        flipped = bytearray(raw)
        flipped[at] ^= 1 << int(rng.integers(8))
        (broken / "study.sqlite").write_bytes(flipped)
        try:
            data = curvopt.load_study(broken)
        except curvopt.StudyError:
            found += 1
        else:
            assert_same(data, whole)
    assert found > 8


@pytest.mark.parametrize("size", [0, 60, 5000, -1000])
def test_a_file_that_was_cut(saved, size):
    folder, _ = saved
    path = folder / "study.sqlite"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(curvopt.StudyError, match="study.sqlite"):
        curvopt.load_study(folder)


def test_a_damaged_run_is_run_again_if_that_is_wanted(regression, saved):
    folder, whole = saved
    with sqlite3.connect(folder / "study.sqlite") as db:
        db.execute("UPDATE state SET data = zeroblob(8) WHERE cohort = 1 AND run = 2")
        db.execute("UPDATE records SET steps = zeroblob(8) WHERE cohort = 0 AND run = 1")
    db.close()
    with pytest.raises(curvopt.StudyError, match="the records of run 1 of cohort 0.*rerun"):
        study(regression, folder)
    assert_same(study(regression, folder, rerun_damaged=True), whole)
    with pytest.raises(curvopt.StudyError, match="the state of run 2 of cohort 1"):
        curvopt.load_run(folder, strategy="b", seed=2)


def test_a_lost_piece(saved):
    folder, _ = saved
    with sqlite3.connect(folder / "study.sqlite") as db:
        db.execute("DELETE FROM records WHERE cohort = 0 AND run = 0 AND first = 1")
    db.close()
    with pytest.raises(curvopt.StudyError, match="a piece before step"):
        curvopt.load_study(folder)


def test_a_full_disk(regression, finished, tmp_path, monkeypatch):
    (_, whole), opened = finished, _store._File._opened

    def small(self, path, mode):
        db = opened(self, path, mode)
        db.execute("PRAGMA max_page_count = 4")
        return db

    with monkeypatch.context() as patch:
        patch.setattr(_store._File, "_opened", small)
        with pytest.raises(curvopt.StudyError, match="full.*is intact"):
            study(regression, tmp_path)
    assert_same(study(regression, tmp_path), whole)


def test_a_study_that_is_removed_while_it_runs(regression, tmp_path, monkeypatch):
    put = _store._File.put_piece

    def removing(self, *args):
        put(self, *args)
        if self.path.exists():
            os.unlink(self.path)

    monkeypatch.setattr(_store._File, "put_piece", removing)
    with pytest.raises(curvopt.StudyError, match="was removed or replaced"):
        study(regression, tmp_path, strategies={"a": STRATEGIES["a"]})


def test_files_of_another_study_or_another_kind(regression, saved, tmp_path):
    folder, _ = saved
    study(regression, tmp_path / "other", strategies={"a": STRATEGIES["a"]}, steps=2)
    shutil.copy(tmp_path / "other" / "study.sqlite", folder / "study-1.sqlite")
    with pytest.raises(curvopt.StudyError, match="study-1.sqlite belongs to another study"):
        curvopt.load_study(folder)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    sqlite3.connect(foreign / "study.sqlite").execute(
        "CREATE TABLE x (y)"
    ).connection.close()
    with pytest.raises(curvopt.StudyError, match="is not a study of curvopt"):
        study(regression, foreign)
    with sqlite3.connect(folder / "study.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(
        curvopt.StudyError, match="has format 99 .*reads and writes format 2"
    ):
        curvopt.load_study(folder)


def test_a_folder_of_the_first_format(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    (tmp_path / "study.sqlite").write_text("")
    with pytest.raises(curvopt.StudyError, match="of curvopt 0.1, in format 1"):
        curvopt.load_study(tmp_path)


def test_it_is_read_from_a_disk_that_cannot_be_written(saved):
    folder, whole = saved
    (folder / ".lock-0").unlink()
    os.chmod(folder / "study.sqlite", 0o444)
    os.chmod(folder, 0o555)
    try:
        assert_same(curvopt.load_study(folder), whole)
    finally:
        os.chmod(folder, 0o755)


def test_a_transaction_that_was_killed_is_rolled_back_for_readers(saved, tmp_path):
    """As `kill -9` leaves it: a journal beside the file, on a disk that is read-only."""
    folder, whole = saved
    copy = tmp_path / "copy"
    db = sqlite3.connect(folder / "study.sqlite", isolation_level=None)
    db.execute("PRAGMA cache_spill = 1")
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN")
    db.execute("UPDATE records SET steps = zeroblob(60000)")
    shutil.copytree(folder, copy)
    db.execute("ROLLBACK")
    db.close()
    assert (copy / "study.sqlite-journal").stat().st_size > 0
    assert_same(curvopt.load_study(copy), whole)


def test_deleting_leaves_what_is_not_ours(regression, saved):
    folder, whole = saved
    (folder / "notes.txt").write_text("mine")
    (folder / "study-9.sqlite").write_text("mine")
    with filelock.FileLock(folder / ".lock-0"):
        with pytest.raises(curvopt.StudyError, match="another process is running a study"):
            curvopt.delete_study(folder)
    curvopt.delete_study(folder)
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "study-9.sqlite"}
    curvopt.delete_study(folder)
    (folder / "study-9.sqlite").unlink()
    assert_same(study(regression, folder), whole)


@pytest.mark.parametrize("folder", ["", 3, b""])
def test_no_folder(regression, folder, unchecked):
    with pytest.raises(ValueError, match="folder must be the path of a folder"):
        study(regression, folder)


def test_the_users_own_folder(regression, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    study(regression, "~/mine", strategies={"a": STRATEGIES["a"]}, steps=2)
    assert (tmp_path / "mine" / "study.sqlite").exists()


def test_a_folder_that_cannot_be_written(regression, tmp_path):
    path = tmp_path / "file"
    path.write_text("here is a file, not a folder")
    with pytest.raises(curvopt.StudyError, match="not writable.*Choose another"):
        study(regression, path)

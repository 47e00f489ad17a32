"""Only their owner can read the files and folders that ragkit creates, with the umask that most systems have."""

import os
import stat

import pytest
from stored_folders import KINDS


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("name", KINDS)
def test_stored_files_are_private_in_a_folder_that_others_may_read(tmp_path, usual_umask, name):
    folder = tmp_path / "stored"
    folder.mkdir()
    KINDS[name].make(folder)
    KINDS[name].use(folder)
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert modes
    assert {place: oct(mode) for place, mode in modes.items() if mode & 0o077} == {}


@pytest.mark.parametrize("name", ["index, exact", "selector, BM25", "trace", "answer cache", "comparison"])
def test_new_folders_are_private(tmp_path, usual_umask, name):
    folder = tmp_path / "new" / "stored"
    KINDS[name].make(folder)
    assert {stat.S_IMODE(each.stat().st_mode) for each in (folder, folder.parent)} == {0o700}

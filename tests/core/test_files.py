"""Atomic writes, locks and checksums."""

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from faults import no_file_past

from ragkit._files import (
    atomic_file,
    atomic_folder,
    create_private,
    file_sha256,
    locked,
    make_folder,
    make_private,
    private_opener,
    read_arrays,
    try_lock,
    with_checksum,
    without_checksum,
)
from ragkit._files import write_atomic as write


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("content", ["grün\r\n\n", b"\x00\xff", "", b""])
def test_a_file_holds_exactly_what_was_written(tmp_path, content, durable):
    path = tmp_path / ("n" * 251 + ".txt")  # the longest name that the file system takes
    write(path, "old content that is longer")
    write(path, content, durable=durable)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode("utf-8"))
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "facts.json"
    write(path, "old")
    with no_file_past(1000), pytest.raises(OSError, match="File too large"):
        write(path, b"x" * 2000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_in_the_block_or_in_the_text_leaves_the_old_file(tmp_path):
    def interrupted():
        with atomic_file(path) as file:
            file.write(b"half")
            raise KeyError

    path = tmp_path / "facts.json"
    write(path, "old")
    with pytest.raises(KeyError):
        interrupted()
    with pytest.raises(UnicodeEncodeError):
        write(path, "new \ud800")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_new_files_and_folders_are_private(tmp_path, umask):
    make_folder(tmp_path / "a" / "b")
    write(tmp_path / "file", "x")
    (tmp_path / "file").chmod(0o644)
    write(tmp_path / "file", "y")  # a readable old file does not make the new one readable
    with atomic_file(tmp_path / "open") as file:
        assert {mode(each) for each in tmp_path.glob(".open*")} == {0o600}
        file.write(b"x")
    with locked(tmp_path / "lock"), open(tmp_path / "log", "a", encoding="utf-8", opener=private_opener) as log:
        log.write("x")
    with atomic_folder(tmp_path / "c" / "d"):
        pass
    create_private(tmp_path / "db")
    made = {str(each.relative_to(tmp_path)): mode(each) for each in tmp_path.rglob("*")}
    folders = dict.fromkeys(["a", "a/b", "c", "c/d"], 0o700)
    assert made == folders | dict.fromkeys(["file", "open", "lock", "log", "db"], 0o600)


def test_a_database_and_its_journals_are_private(tmp_path, umask):
    create_private(tmp_path / "db")
    with closing(sqlite3.connect(tmp_path / "db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        assert {each.name: mode(each) for each in tmp_path.iterdir()} == dict.fromkeys(
            ["db", "db-wal", "db-shm"], 0o600
        )


def test_a_stricter_umask_and_the_mode_of_an_existing_folder_are_respected(tmp_path, umask):
    (tmp_path / "shared").mkdir(mode=0o755)
    make_folder(tmp_path / "shared")
    umask(0o277)
    write(tmp_path / "file", "x")
    assert mode(tmp_path / "shared") == 0o755
    assert mode(tmp_path / "file") == 0o400


def test_files_of_libraries_are_made_private(tmp_path, umask):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "inner" / "weights").touch()
    (tmp_path / "outside").touch()
    (tmp_path / "model" / "link").symlink_to(tmp_path / "outside")
    make_private(tmp_path / "model")
    assert mode(tmp_path / "model") == 0o755
    assert mode(tmp_path / "model" / "inner") == 0o700
    assert mode(tmp_path / "model" / "inner" / "weights") == 0o600
    assert mode(tmp_path / "outside") == 0o644


def test_no_write_goes_through_a_symbolic_link(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "final").symlink_to(outside)
    write(tmp_path / "final", "new")
    assert not (tmp_path / "final").is_symlink()
    assert (tmp_path / "final").read_text() == "new"
    monkeypatch.setattr("ragkit._files.secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".new.guessed.partial").symlink_to(outside)
    with pytest.raises(FileExistsError):
        write(tmp_path / "new", "new")
    (tmp_path / "lock").symlink_to(tmp_path / "created")
    with pytest.raises(OSError, match="symbolic link"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "created").exists()
    assert outside.read_text() == "mine"


SECOND_USER = """
import os, sys
from contextlib import ExitStack
from pathlib import Path
from ragkit._files import locked, make_folder, write_atomic
os.setuid(54321)
folder = Path(sys.argv[1])
for use in (lambda path: write_atomic(path, ""), make_folder, locked):
    try:
        with use(folder / "x") or ExitStack():
            pass
    except PermissionError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_folder_of_another_user_is_named(tmp_path):
    for each in [tmp_path, *tmp_path.parents[:2]]:
        each.chmod(0o755)
    make_folder(tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", SECOND_USER, tmp_path / "cache"], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("RAGKIT_CACHE") == 3
    assert done.stdout.count("belongs to user 0") == 3


def test_readers_see_whole_files_only(tmp_path):
    path = tmp_path / "facts.json"
    contents = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    write(path, contents[0])
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write, path, content, durable=False) for content in contents * 8]
        seen = {path.read_bytes() for _ in range(300)}
        for each in writes:
            each.result()
    assert seen <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "a" / "model"
    with atomic_folder(target) as folder:
        (folder / "weights").write_bytes(b"w")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert (target / "weights").read_bytes() == b"w"
    with pytest.raises(OSError, match="not empty"), atomic_folder(target) as folder:
        (folder / "other").write_bytes(b"o")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "b"):
        raise KeyError
    assert [path.name for path in target.iterdir()] == ["weights"]
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


HOLDER = "import sys; from pathlib import Path; from ragkit._files import locked\nwith locked(Path(sys.argv[1])):\n    "


def test_a_lock_is_held_between_processes_until_its_holder_dies(tmp_path):
    path = tmp_path / "lock"
    code = HOLDER + "print('held', flush=True); input()"
    command = [sys.executable, "-c", code, path]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder,
        path.open("ab") as file,
    ):
        assert holder.stdout.readline() == "held\n"
        assert not try_lock(file.fileno())
        holder.kill()
        holder.wait()
        with locked(path):  # waits for the system to release it
            assert not try_lock(file.fileno())
        assert try_lock(file.fileno())
        with path.open("ab") as other:
            assert not try_lock(other.fileno())


def test_the_checksum_of_files_is_that_of_their_bytes(tmp_path):
    parts = [os.urandom(size) for size in (0, 5, 2**20 + 3)]
    paths = [tmp_path / str(place) for place in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    assert file_sha256(*paths) == hashlib.sha256(b"".join(parts)).hexdigest()


def test_every_changed_byte_of_a_line_is_noticed():
    text = '{"name":"grün","n":1}'
    line = with_checksum(text).encode()
    assert line.endswith(f'"checksum":"{zlib.crc32(text.encode()):08x}"}}'.encode())
    assert without_checksum(line) == text.encode()
    for place in range(len(line)):
        changed = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
        assert without_checksum(changed) is None


HOSTILE_ARRAYS = {
    "not an array": b"text",
    "a shape of 8 TiB": b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117)
    + b"\n",
    "objects": b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117)
    + b"\n",
}


@pytest.mark.parametrize("content", HOSTILE_ARRAYS.values(), ids=HOSTILE_ARRAYS)
def test_hostile_arrays_are_damage(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(ValueError, match=r"a\.npz is damaged|allow_pickle"):
        read_arrays(tmp_path / "a.npz")


def test_arrays_that_decompress_to_more_than_their_file_are_damage(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**6))
    with pytest.raises(ValueError, match="take more room than the file"):
        read_arrays(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=np.arange(5))
    assert read_arrays(tmp_path / "a.npz")["a"].tolist() == [0, 1, 2, 3, 4]


def test_a_folder_that_another_thread_creates_at_the_same_time_is_no_error(tmp_path, monkeypatch):
    folder, file, looked = tmp_path / "a" / "b", tmp_path / "file", set()
    folder.mkdir(parents=True)
    file.touch()
    is_dir = Path.is_dir

    def is_dir_later(path):  # at the first look, the folders do not exist yet
        missing = path in {folder, folder.parent} - looked
        looked.add(path)
        return not missing and is_dir(path)

    monkeypatch.setattr(Path, "is_dir", is_dir_later)
    make_folder(folder)
    assert looked >= {folder, folder.parent}
    with pytest.raises(NotADirectoryError, match="file"):
        make_folder(file)

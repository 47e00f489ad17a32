"""Atomic writes, locks and checksums."""

import hashlib
import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults import no_file_past

from ragkit.files import atomic_file, atomic_folder, file_sha256, locked, try_lock, with_checksum, without_checksum
from ragkit.files import write_atomic as write


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


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    write(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


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


HOLDER = "import sys; from pathlib import Path; from ragkit.files import locked\nwith locked(Path(sys.argv[1])):\n    "


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

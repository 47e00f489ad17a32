"""An index that is open in a process that forks: one process writes, the others read."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from index_writer import VECTORS

from ragkit import Completion, Document, Index
from ragkit.errors import IndexLockedError, RagkitError
from ragkit.models import AnswerCache

CONTEXTS = ["fork", "spawn", "forkserver"]
HELPERS = Path(__file__).parents[1] / "helpers"


def filled(folder, **options):
    index = Index.create(folder, embedder=None, dim=8, **options)
    index.add([Document(f"text {n}", id=f"d{n}") for n in range(40)], vectors=VECTORS[:40])
    return index


def in_fork(work):
    """Run work in a fork of this process and give what it returns, or its error, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # a deadlock ends the child
        try:
            told = str(work())
        except RagkitError as error:
            told = type(error).__name__
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as report:
        told = report.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return told


def texts(index):
    _, keys = index.search_vectors(VECTORS[:3], 1)
    return [each.text for each in index.get_by_keys(keys)]


def test_a_cache_whose_folder_is_gone_does_not_hide_the_fork_from_an_index(tmp_path):
    cache = AnswerCache(tmp_path / "gone" / "answers.sqlite")
    shutil.rmtree(tmp_path / "gone")
    with filled(tmp_path / "i.rag") as index:
        assert in_fork(lambda: WRITES["add"](index)) == "IndexLockedError"
        assert in_fork(lambda: cache.get(b"key")) == "IntegrityError"


WRITES = {
    "add": lambda index: index.add(["new"], vectors=VECTORS[50:51]),
    "delete": lambda index: index.delete(["d1"]),
    "compact": lambda index: index.compact(),
    "index_field": lambda index: index.index_field("n"),
    "tune": lambda index: index.tune(),
    "sync": lambda index: index.sync([Document("new", id="d1")]),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_fork_cannot_write_and_the_parent_process_can(tmp_path, write):
    with filled(tmp_path / "i") as index:
        assert in_fork(lambda: WRITES[write](index)) == "IndexLockedError"
        index.add([Document("later", id="later")], vectors=VECTORS[41:42])
        assert len(index) == 41
        index.verify()
    with Index.open(tmp_path / "i", verify=True) as again:
        assert len(again) == 41


def test_a_fork_reads_what_the_parent_process_commits_later(tmp_path):
    with filled(tmp_path / "i") as index:
        assert index.search_vectors(VECTORS[:4], 3)[0].shape == (4, 3)  # FAISS has started its threads
        ready, go = os.pipe(), os.pipe()

        def reads():
            before = texts(index)
            os.write(ready[1], b"1")
            os.read(go[0], 1)
            return before, index.get(["d39", "new"])[-1].text, len(index), index.read_only

        thread_told = []
        thread = threading.Thread(target=lambda: thread_told.append(in_fork(reads)))
        thread.start()
        os.read(ready[0], 1)
        index.add([Document("committed later", id="new")], vectors=VECTORS[41:42])
        os.write(go[1], b"1")
        thread.join()
        assert thread_told == [str((["text 0", "text 1", "text 2"], "committed later", 41, True))]


@pytest.mark.parametrize("options", [{}, {"factory": "IVF2,Flat"}, {"factory": "HNSW16"}])
def test_a_fork_searches_many_queries_at_once(tmp_path, options):
    with filled(tmp_path / "i", **options) as index:
        index.compact()
        expected = index.search_vectors(VECTORS, 3)[1].tolist()
        assert in_fork(lambda: index.search_vectors(VECTORS, 3)[1].tolist()) == str(expected)


def test_forks_that_close_or_end_leave_the_lock_to_the_parent_process(tmp_path):
    with filled(tmp_path / "i") as index:
        child = os.fork()
        if not child:
            index.close()
            os.execv(sys.executable, [sys.executable, "-c", ""])  # noqa: S606
        os.waitpid(child, 0)
        with pytest.raises(IndexLockedError):
            Index.open(tmp_path / "i")
        index.add(["new"], vectors=VECTORS[41:42])
        assert "pid" in (tmp_path / "i" / "writer.lock").read_text()


def test_the_lock_is_free_when_the_parent_process_closes_the_index_while_a_fork_lives(tmp_path):
    index = filled(tmp_path / "i")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    index.close()
    with Index.open(tmp_path / "i") as again:
        again.add(["new"], vectors=VECTORS[41:42])
    os.write(writer, b"1")
    os.waitpid(child, 0)


def test_a_closed_index_leaves_the_files_of_a_fork_alone(tmp_path):
    index = filled(tmp_path / "i")
    lock = index._store._lock._file
    index.close()
    reader, writer = os.pipe()  # one of them has the number that the lock's file had
    assert lock in {reader, writer}
    assert in_fork(lambda: (os.fstat(reader), os.fstat(writer)) and "both are open") == "both are open"
    os.close(reader)
    os.close(writer)


def test_a_fork_that_ends_does_not_remove_an_index_in_memory():
    script = (
        "import os, numpy as np; from ragkit import Index\n"
        "index = Index.create(None, embedder=None, dim=2)\n"
        "index.add(['a'], vectors=np.ones((1, 2), dtype=np.float32))\n"
        "child = os.fork()\n"
        "if child:\n"
        "    os.waitpid(child, 0); index.add(['b'], vectors=np.ones((1, 2), dtype=np.float32))\n"
        "    index.verify(); print(len(index), index.path.is_dir())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["2", "True"], done.stderr


def _open_and(folder, what, answers):
    try:
        with Index.open(folder, read_only=what == "read") as index:
            answers.put(texts(index))
    except RagkitError as error:
        answers.put(type(error).__name__)


def _use(index, what, answers):
    try:
        answers.put(texts(index) if what == "read" else index.add(["new"], vectors=VECTORS[50:51]))
    except RagkitError as error:
        answers.put(type(error).__name__)


def _told_by(context, target, *arguments):
    answers = context.SimpleQueue()
    process = context.Process(target=target, args=(*arguments, answers))
    process.start()
    told = answers.get()
    process.join()
    assert process.exitcode == 0
    return told


@pytest.mark.parametrize("method", CONTEXTS)
def test_processes_of_multiprocessing_open_an_index_for_reading_only(tmp_path, method):
    context = multiprocessing.get_context(method)
    with filled(tmp_path / "i") as index:
        assert _told_by(context, _open_and, tmp_path / "i", "write") == "IndexLockedError"
        assert _told_by(context, _open_and, tmp_path / "i", "read") == ["text 0", "text 1", "text 2"]
        index.verify()


def test_processes_of_multiprocessing_inherit_an_index_for_reading_only(tmp_path):
    context = multiprocessing.get_context("fork")
    with filled(tmp_path / "i") as index:
        assert _told_by(context, _use, index, "write") == "IndexLockedError"
        assert _told_by(context, _use, index, "read") == ["text 0", "text 1", "text 2"]
        index.verify()


def test_a_fork_server_that_has_preloaded_a_writable_index(tmp_path):
    filled(tmp_path / "i").close()
    script = (
        "import multiprocessing as m\n"
        "def use(write):\n"
        "    from forking_module import INDEX\n"
        "    try:\n"
        "        return INDEX.delete(['d1']) if write else INDEX.get(['d1'])[0].text\n"
        "    except Exception as error:\n"
        "        return type(error).__name__\n"
        "if __name__ == '__main__':\n"
        "    m.set_forkserver_preload(['forking_module'])\n"
        "    with m.get_context('forkserver').Pool(2) as pool:\n"
        "        print(*pool.map(use, [True, False, True, False], chunksize=1), sep='|')\n"
    )
    (tmp_path / "main.py").write_text(script)
    paths = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": paths, "RAGKIT_TEST_INDEX": str(tmp_path / "i")},
    )
    assert done.stdout.strip() == "IndexLockedError|text 1|IndexLockedError|text 1", done.stderr
    Index.open(tmp_path / "i", verify=True).close()


def test_a_server_that_preloads_an_index_and_forks_workers(tmp_path):
    """As ``gunicorn --preload`` does: workers accept from one socket, and each uses what the master has opened."""
    with filled(tmp_path / "i") as index, socket.create_server(("127.0.0.1", 0)) as listening:
        index.search_vectors(VECTORS[:4], 3)
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                _serve(index, listening)
            children.append(child)
        told = [_asked(listening.getsockname(), what) for what in ("read", "write") * 6]
        index.add(["the master writes"], vectors=VECTORS[41:42])
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert told == ["text 5", "IndexLockedError"] * 6
        index.verify()
    with Index.open(tmp_path / "i", verify=True) as again:
        assert len(again) == 41


def _serve(index, listening):
    signal.alarm(60)
    while True:
        connection, _ = listening.accept()
        with connection:
            if connection.recv(10) == b"read":
                _, keys = index.search_vectors(VECTORS[5:6], 1)
                connection.sendall(index.get_by_keys(keys)[0].text.encode())
                continue
            try:
                index.add(["lost"], vectors=np.ones((1, 8), dtype=np.float32))
            except IndexLockedError:
                connection.sendall(b"IndexLockedError")


def _asked(address, what):
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(what.encode())
        return connection.recv(100).decode()


def test_an_answer_cache_works_on_both_sides_of_a_fork(tmp_path):
    cache = AnswerCache(tmp_path / "c.sqlite")
    cache.put(b"a", Completion(text="of the parent process"))
    assert in_fork(lambda: (cache.put(b"b", Completion(text="of the fork")), cache.get(b"a").text)[1]) == (
        "of the parent process"
    )
    assert cache.get(b"b").text == "of the fork"
    cache.close()

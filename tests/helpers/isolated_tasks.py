"""Requests that harm the process that answers them."""

import json
import os
import time
from pathlib import Path

leaked = []


def answer(request):
    asked = json.loads(request)
    return json.dumps(globals()["do_" + asked.pop("do")](**asked)).encode()


def do_pid():
    return os.getpid()


def do_echo(text):
    return text


def do_allocate():
    return len(bytearray(2**29))


def do_leak(mebibytes):
    leaked.append(bytearray(mebibytes * 2**20))


def do_wait():
    time.sleep(60)


def do_compute():
    while True:
        pass


def do_exit():
    os._exit(7)


def do_signal(number):
    os.kill(os.getpid(), number)


def do_raise():
    raise ValueError("half \ud800")


def do_much():
    return "x" * (2**28 + 1)


def do_write(path):
    with Path(path).open("wb", buffering=0) as file:
        file.write(b"x")


def do_environment():
    return sorted(os.environ)

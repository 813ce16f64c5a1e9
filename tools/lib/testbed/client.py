"""Runs one command in a testbed that is up, as if it ran here."""

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty

import json

from common import Failure

from . import frames

# The environment that goes along.
PASSED = ("RAVELIN_", "NEXTEST", "RUST_", "CARGO_", "TERM")


class Lost(Failure):
    """The testbed went away."""

    status = 125


def connect(state, timeout):
    return socket.create_connection(("127.0.0.1", state["port"]), timeout)


def request(state, argv, **options):
    return frames.pack(b"r", json.dumps({"token": state["token"], "argv": argv, **options}).encode())


def ping(state):
    """Whether the agent answers."""
    try:
        with connect(state, 5) as connection:
            connection.settimeout(10)
            connection.sendall(request(state, ["/bin/true"]))
            return connection.recv(1) != b""
    except OSError:
        return False


def environment(extra):
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    return {**passed, **extra}


def run(state, argv, cwd, extra, timeout, terminal):
    """Runs a command; its status as a shell gives it, 124 when its time was over, 125 when the testbed is lost."""
    options = {"cwd": cwd, "env": environment(extra)}
    if terminal:
        size = os.get_terminal_size(0)
        options |= {"tty": True, "size": [size.lines, size.columns]}
    try:
        connection = connect(state, 10)
        connection.settimeout(None)
        connection.sendall(request(state, argv, **options))
    except OSError as error:
        raise Lost(f"the testbed does not answer ({error}): try tools/testbed down, then up") from error
    with connection, raw(terminal), resizing(connection, terminal):
        return relay(connection, timeout)


@contextlib.contextmanager
def raw(terminal):
    """The terminal in raw mode, always put back."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def resizing(connection, terminal):
    """Tells the far terminal when this one changes its size."""
    if not terminal:
        yield
        return

    def tell(*_):
        packed = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
        rows, columns = struct.unpack("HHHH", packed)[:2]
        connection.sendall(frames.pack_size(rows, columns))

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def relay(connection, timeout):
    deadline = time.monotonic() + timeout if timeout else None
    reader = frames.Reader()
    sources = [connection, 0]
    while True:
        left = max(0, deadline - time.monotonic()) if deadline else None
        ready, _, _ = select.select(sources, [], [], left)
        if not ready and deadline and time.monotonic() >= deadline:
            sys.stderr.write(f"testbed: the command was ended: its {timeout:g} s are over\n")
            return 124
        if 0 in ready:
            data = read_stdin()
            connection.sendall(frames.pack(b"i", data))
            if not data:
                sources.remove(0)
        if connection in ready:
            data = connection.recv(262144)
            if not data:
                raise Lost("the testbed was lost while the command ran: see tools/testbed log")
            for kind, payload in reader.feed(data):
                if kind == b"x":
                    return frames.unpack_status(payload)
                put(1 if kind == b"o" else 2, payload)


def read_stdin():
    try:
        return os.read(0, 65536)
    except OSError:
        return b""


def put(fd, data):
    while data:
        data = data[os.write(fd, data) :]

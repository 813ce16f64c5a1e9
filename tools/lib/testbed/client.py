"""Runs one command in a testbed that is up, as if it ran here."""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
from tty import setraw

from common import Failure, cache_dir

from . import frames

# The environment that goes along.
PASSED = ("RAVELIN_", "NEXTEST", "RUST_", "CARGO_", "TERM")
# Signals that are the command's, and the one that says that the window has another size.
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# How long a command whose time is over has to end by SIGTERM.
GRACE_SECONDS = 5


class Lost(Failure):
    """The testbed went away while the command ran."""


class Unreachable(Lost):
    """The testbed was away already: nothing of the command has run."""


def run(state, argv, cwd, extra, timeout=None, tty=False):
    """Runs a command; its status as a shell gives it, or 124 when its time was over."""
    options = {"cwd": cwd, "env": environment(extra)}
    if tty:
        options |= {"tty": True, "size": window_size()}
    try:
        connection = connect(state, argv, options, timeout=10)
    except OSError as error:
        raise Unreachable(f"the testbed does not answer ({error})") from error
    with connection, wakeup() as signals, raw(tty):
        try:
            return Relay(connection, signals, timeout).run()
        except ConnectionError as error:
            raise Lost("the testbed was lost while the command ran: see tools/testbed log") from error


def ping(state):
    """Whether the agent answers."""
    try:
        with connect(state, ["/bin/true"], {}, timeout=5) as connection:
            connection.settimeout(10)
            return connection.recv(1) != b""
    except OSError:
        return False


def connect(state, argv, options, timeout):
    """A connection whose request has been sent."""
    connection = socket.create_connection(("127.0.0.1", state["port"]), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = {"token": state["token"], "argv": argv, **options}
    connection.sendall(frames.pack(b"r", json.dumps(request).encode()))
    connection.settimeout(None)
    return connection


def environment(extra):
    """What the command sees of this environment; `extra` are words NAME=VALUE, or NAME for the value here."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    passed["RAVELIN_CACHE"] = cache_dir()
    for word in extra:
        name, equals, value = word.partition("=")
        passed[name] = value if equals else os.environ.get(name, "")
    return passed


def window_size():
    """Rows and columns of this terminal, or of an ordinary one where there is none."""
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            return struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))[:2]
    return (24, 80)


@contextlib.contextmanager
def raw(wanted):
    """This terminal in raw mode, always put back."""
    if not wanted or not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def wakeup():
    """Turns signals into bytes: a descriptor that gives the number of each that arrives."""
    ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: None) for number in (*FORWARDED, signal.SIGWINCH)}
    previous = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(ours)
        os.close(theirs)


class Relay:
    """Between this process's standard descriptors and the command's."""

    def __init__(self, connection, signals, timeout):
        self.connection = connection
        self.signals = signals
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout if timeout else None
        self.late = False
        self.reader = frames.Reader()
        self.reading = True
        self.credit = frames.WINDOW
        self.signalled = False
        self.status = None

    def run(self):
        """Until the command has ended; the status."""
        while self.status is None:
            ready = self.wait()
            if not ready and self.overdue():
                return 124
            if self.signals in ready:
                self.from_signals()
            if self.connection in ready:
                self.from_command()
            if 0 in ready:
                self.from_stdin()
        return 124 if self.late else self.status

    def wait(self):
        sources = [self.connection, self.signals]
        if self.reading and self.credit:
            sources.append(0)
        left = None if self.deadline is None else max(0, self.deadline - time.monotonic())
        return select.select(sources, [], [], left)[0]

    def overdue(self):
        """Asks the command to end when its time is over; whether it has been asked before."""
        if self.deadline is None or time.monotonic() < self.deadline or self.late:
            return self.late
        sys.stderr.write(f"testbed: the command is ended: its {self.timeout:g} s are over\n")
        self.connection.sendall(frames.pack_signal(signal.SIGTERM))
        self.deadline += GRACE_SECONDS
        self.late = True
        return False

    def from_signals(self):
        for number in os.read(self.signals, 512):
            if number == signal.SIGWINCH:
                self.connection.sendall(frames.pack_size(*window_size()))
            elif self.signalled:
                # It was asked before and is still there: the end of the connection kills it.
                self.status = 128 + number
            else:
                self.signalled = True
                self.connection.sendall(frames.pack_signal(number))

    def from_command(self):
        data = self.connection.recv(262144)
        if not data:
            raise ConnectionError
        for kind, payload in self.reader.feed(data):
            if kind == b"x":
                self.status = frames.unpack_status(payload)
            elif kind == b"c":
                self.credit += frames.unpack_credit(payload)
            else:
                self.put(1 if kind == b"o" else 2, payload)

    def from_stdin(self):
        try:
            data = os.read(0, min(self.credit, 65536))
        except OSError:
            data = b""
        self.connection.sendall(frames.pack(b"i", data))
        self.credit -= len(data)
        self.reading = bool(data)

    def put(self, fd, data):
        while data and self.status is None:
            try:
                data = data[os.write(fd, data) :]
            except BrokenPipeError:
                # As the command would end if it wrote here itself.
                self.status = 128 + signal.SIGPIPE

"""The experiments with a monitor's socket: it is asked as Firecracker's clients ask."""

import contextlib
import json
import os
import socket
import statistics
import time

from . import host, smaps
from .monitors import MEMORY_MIB, Firecracker, Guest
from .process import LIMIT_S, MARK

ROUND_TRIPS = 500
WARM_UP = 50
NO_GUEST = 1 << 62  # bytes: larger than any mapping, so that none is taken for a guest's


class Client:
    """A connection to a monitor's socket. A context: it is closed at the end."""

    def __init__(self, process, path):
        self.process, self.path, self.socket = process, path, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.socket:
            self.socket.close()

    def connect(self):
        """Connects as soon as the monitor accepts; returns the moment. Nothing here sleeps: the other core is its."""
        deadline = self.process.started + LIMIT_S
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                client.connect(self.path)
            except OSError:
                client.close()
            else:
                now = time.perf_counter()
                client.settimeout(LIMIT_S)
                self.socket = client
                return now
            if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                raise self.process.failed("it ended before its socket accepted")
            if time.perf_counter() > deadline:
                raise self.process.failed(f"its socket did not accept within {LIMIT_S} s")

    def ask(self, method, path, body=None):
        """One request, which must be met; returns its answer's body."""
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
        if text:
            head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        self.socket.sendall(head.encode() + b"\r\n" + text)
        answer = b""
        while not _is_whole(answer):
            data = self.socket.recv(65536)
            if not data:
                raise self.process.failed(f"its connection ended after {method} {path}")
            answer += data
        status = answer.split(b" ", 2)[1]
        if not status.startswith(b"2"):
            raise self.process.failed(f"{method} {path} was answered with {answer.decode(errors='replace')}")
        return answer.partition(b"\r\n\r\n")[2]

    def describe(self, kernel, guest):
        """Describes `guest`, with a request for each part."""
        config = Firecracker.config(kernel, guest)
        for part in ("machine-config", "boot-source"):
            self.ask("PUT", f"/{part}", config[part])
        for drive in config["drives"]:
            self.ask("PUT", f"/drives/{drive['drive_id']}", drive)
        for card in config["network-interfaces"]:
            self.ask("PUT", f"/network-interfaces/{card['iface_id']}", card)

    def start(self):
        """Starts the guest; returns the moment before the request was sent."""
        before = time.perf_counter()
        self.ask("PUT", "/actions", {"action_type": "InstanceStart"})
        return before


def _is_whole(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return True


@contextlib.contextmanager
def served(bench, monitor):
    """A monitor with a socket, and a client that is connected."""
    path = os.path.join(bench.scratch, "api.sock")
    # A monitor that was killed leaves its socket.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with bench.serve(monitor, path) as process, Client(process, path) as client:
        yield process, client


def accepts(bench, monitor):
    """From exec to the socket accepting, in ms."""
    with served(bench, monitor) as (process, client):
        return ((client.connect() - process.started) * 1e3,)


def instance_start(bench, monitor):
    """From InstanceStart to the guest's first instruction, in ms."""
    with served(bench, monitor) as (process, client):
        client.connect()
        client.describe(bench.kernel, Guest("payload=idle"))
        before = client.start()
        return ((process.read_until(MARK) - before) * 1e3,)


def round_trip(bench, monitor):
    """The median time of `GET /` on one connection, in us."""
    with served(bench, monitor) as (_, client):
        client.connect()
        times = []
        for _ in range(WARM_UP + ROUND_TRIPS):
            before = time.perf_counter()
            client.ask("GET", "/")
            times.append(time.perf_counter() - before)
        return (statistics.median(times[WARM_UP:]) * 1e6,)


def idle(bench, monitor):
    """Memory in KiB of a monitor that waits for its first guest."""
    with served(bench, monitor) as (process, client):
        client.connect()
        client.ask("GET", "/")
        found = smaps.measure(process.pid, NO_GUEST)
        return (found["dirty"], found["pss"])


def running(bench, monitor):
    """Memory in KiB, threads and files with a guest of one vCPU, one disk and one tap."""
    with served(bench, monitor) as (process, client):
        client.connect()
        client.describe(bench.kernel, Guest("payload=idle", disk=host.disk(bench.scratch), tap=host.tap()))
        client.start()
        process.read_until(b"idle\n")
        found = smaps.measure(process.pid, MEMORY_MIB << 20)
        # Of the files one is the connection's.
        return tuple(found[name] for name in ("dirty", "threads", "fds"))

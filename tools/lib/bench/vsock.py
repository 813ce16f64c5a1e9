"""Data over a vsock device, beside a pair of Unix sockets without one."""

import contextlib
import os
import socket
import threading
import time

from .monitors import Guest

RING = "payload.features=event_idx,indirect"  # what Linux's drivers accept
PIECE = 64 << 10
MIB = 1 << 20


def up(mib):
    """MiB a second that the guest sends, in packets of 64 KiB."""

    def run(bench, monitor):
        count = mib * MIB // PIECE
        with called(bench, lambda stream: drain(stream, mib)) as path:
            guest = Guest(f"payload=vsock:tx:{PIECE}:3:{count} {RING}", vsock=path)
            return (rate(bench, monitor, guest, "vsock tx", mib),)

    return run


def down(mib):
    """MiB a second that the guest receives, in buffers of a page."""

    def run(bench, monitor):
        with called(bench, lambda stream: fill(stream, mib)) as path:
            guest = Guest(f"payload=vsock:rx:{mib} {RING}", vsock=path)
            return (rate(bench, monitor, guest, "vsock rx", mib),)

    return run


def pair(mib):
    """MiB a second between two threads over a pair of Unix sockets."""

    def run(_bench, _monitor):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sender = threading.Thread(target=fill, args=(theirs, mib))
            start = time.monotonic()
            sender.start()
            drain(ours, mib)
            spent = time.monotonic() - start
            sender.join()
        return (mib / spent,)

    return run


def rate(bench, monitor, guest, word, mib):
    with bench.start(monitor, guest) as process:
        words = process.read_line(word)
        return mib * bench.hz / int(words[words.index("cycles") + 1])


@contextlib.contextmanager
def called(bench, serve):
    """The path of a socket for a guest, whose calls of port 5000 are served."""
    path = os.path.join(bench.scratch, "v.sock")
    port = f"{path}_5000"
    for old in (path, port):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(port)
        listener.listen()

        def accept():
            # The guest may end first.
            with contextlib.suppress(OSError), listener.accept()[0] as stream:
                serve(stream)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def drain(stream, mib):
    left, piece = mib * MIB, bytearray(4 * PIECE)
    while left > 0:
        got = stream.recv_into(piece)
        if got == 0:
            return
        left -= got


def fill(stream, mib):
    piece = bytes(4 * PIECE)
    for _ in range(mib * MIB // len(piece)):
        stream.sendall(piece)

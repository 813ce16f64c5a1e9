"""Runs commands in the testbed for clients outside: one process a client.

The command's process group dies with its client, so nothing is left running when a client is killed.
"""

import errno
import fcntl
import json
import os
import pty
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import frames

PORT = 7000


def token():
    with open("/proc/cmdline") as file:
        for word in file.read().split():
            if word.startswith("testbed.token="):
                return word.split("=", 1)[1]
    sys.exit("agent: the kernel command line has no testbed.token=")


class Session:
    """One client and its command."""

    def __init__(self, connection):
        self.connection = connection
        self.reader = frames.Reader()
        self.selector = selectors.DefaultSelector()
        self.outputs = 0
        self.stdin = None
        self.waiting = b""
        self.closing = False
        self.early = []

    def request(self):
        """The first frame; those that came with it wait."""
        while not self.early:
            data = self.connection.recv(65536)
            if not data:
                sys.exit(0)
            self.early = self.reader.feed(data)
        kind, payload = self.early.pop(0)
        return json.loads(payload) if kind == b"r" else {}

    def serve(self, secret):
        request = self.request()
        if request.get("token") != secret:
            return
        try:
            process = self.start(request)
        except OSError as error:
            status = 127 if error.errno == errno.ENOENT else 126
            self.send(b"e", f"testbed: {request['argv'][0]}: {error.strerror}\n".encode())
            self.connection.sendall(frames.pack_status(status))
            return
        self.selector.register(self.connection, selectors.EVENT_READ)
        try:
            self.relay(process)
        except OSError:
            # The client is gone.
            pass
        finally:
            end_group(process)

    def start(self, request):
        environment = dict(os.environ, **request.get("env", {}))
        options = {"cwd": request.get("cwd") or "/", "env": environment, "start_new_session": True}
        if request.get("tty"):
            return self.start_on_terminal(request, options)
        process = subprocess.Popen(
            request["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        self.watch(process.stdout.fileno(), b"o")
        self.watch(process.stderr.fileno(), b"e")
        self.stdin = process.stdin.fileno()
        os.set_blocking(self.stdin, False)
        self.files = (process.stdin, process.stdout, process.stderr)
        return process

    def start_on_terminal(self, request, options):
        ours, theirs = pty.openpty()
        self.resize(ours, *request.get("size", (24, 80)))

        def control():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            request["argv"], stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=control, **options
        )
        os.close(theirs)
        self.terminal = self.stdin = ours
        os.set_blocking(ours, False)
        self.watch(ours, b"o")
        return process

    def watch(self, fd, kind):
        self.selector.register(fd, selectors.EVENT_READ, kind)
        self.outputs += 1

    @staticmethod
    def resize(terminal, rows, columns):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def relay(self, process):
        ended = None
        self.take(self.early)
        while self.outputs:
            # Children that outlive the command may hold its pipes open: they are not waited for.
            ready = self.selector.select(0.2 if ended is None else 0)
            for key, _ in ready:
                if key.data is None:
                    self.from_client()
                else:
                    self.from_command(key)
            self.write_stdin()
            if ended is not None and not ready:
                break
            ended = process.poll()
        self.connection.sendall(frames.pack_status(process.wait()))

    def from_command(self, key):
        try:
            data = os.read(key.fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            # A terminal whose last user has left.
            data = b""
        if data:
            self.send(key.data, data)
        else:
            self.selector.unregister(key.fd)
            self.outputs -= 1

    def from_client(self):
        data = self.connection.recv(65536)
        if not data:
            raise OSError("the client is gone")
        self.take(self.reader.feed(data))

    def take(self, received):
        for kind, payload in received:
            if kind == b"i" and payload:
                self.waiting += payload
            elif kind == b"i":
                self.closing = True
            elif kind == b"w" and hasattr(self, "terminal"):
                self.resize(self.terminal, *frames.unpack_size(payload))

    def write_stdin(self):
        if self.stdin is None:
            return
        try:
            while self.waiting:
                written = os.write(self.stdin, self.waiting)
                self.waiting = self.waiting[written:]
        except BlockingIOError:
            return
        except OSError:
            # The command reads no more.
            self.waiting = b""
        if self.closing and not self.waiting:
            self.close_stdin()

    def close_stdin(self):
        self.closing = False
        if hasattr(self, "terminal"):
            return
        self.files[0].close()
        self.stdin = None

    def send(self, kind, data):
        self.connection.sendall(frames.pack(kind, data))


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main():
    secret = token()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(64)
    with open("/dev/console", "w") as console:
        console.write("TESTBED-READY\n")
    while True:
        connection, _ = listener.accept()
        reap()
        if os.fork() == 0:
            listener.close()
            try:
                Session(connection).serve(secret)
            finally:
                os._exit(0)
        connection.close()


main()

"""One monitor process: started, timed, watched on its output, ended."""

import os
import select
import signal
import subprocess
import tempfile
import time

LIMIT_S = 60
MARK = b"#"  # the payload's first instruction


class MonitorFailed(Exception):
    """A monitor did not do what it was asked for; the text is for the user."""


class Process:
    """A running monitor with the guest's serial line on a pipe. A context: nothing is left running."""

    def __init__(self, argv):
        self.argv, self.output = argv, b""
        self.errors = tempfile.TemporaryFile()
        self.status = None
        read, write = os.pipe2(os.O_CLOEXEC)
        self.stdout = read
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, write, 1),
            (os.POSIX_SPAWN_DUP2, self.errors.fileno(), 2),
        ]
        self.started = self.came = time.perf_counter()
        try:
            self.pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setpgroup=0)
        except OSError as error:
            os.close(read)
            raise MonitorFailed(f"{argv[0]} cannot be started: {error.strerror}") from None
        finally:
            os.close(write)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.stdout)
        self.errors.close()

    def read_until(self, text):
        """Reads the guest's output until it holds `text`; returns the moment when it came."""
        deadline = self.started + LIMIT_S
        while text not in self.output:
            ready, _, _ = select.select([self.stdout], [], [], max(0, deadline - time.perf_counter()))
            if not ready:
                raise self.failed(f"{text.decode()!r} was not printed within {LIMIT_S} s")
            data = os.read(self.stdout, 65536)
            self.came = time.perf_counter()
            if not data:
                raise self.failed(f"it ended without printing {text.decode()!r}")
            self.output += data
        return self.came

    def read_line(self, start):
        """Reads until a line that begins with `start` is complete; returns its words."""
        self.read_until(b"\n" + start.encode())
        self.read_until_line_end(start.encode())
        lines = self.output.decode(errors="replace").splitlines()
        return next(line for line in lines if line.startswith(start)).split()

    def read_until_line_end(self, start):
        """Reads until the line that begins with `start` ends."""
        while b"\n" not in self.output[self.output.index(b"\n" + start) + 1:]:
            data = os.read(self.stdout, 65536)
            self.came = time.perf_counter()
            if not data:
                raise self.failed("it ended in the middle of a line")
            self.output += data

    def wait(self):
        """Waits for the process to be gone; returns the moment."""
        descriptor = os.pidfd_open(self.pid)
        try:
            if not select.select([descriptor], [], [], LIMIT_S)[0]:
                raise self.failed(f"it did not end within {LIMIT_S} s")
            now = time.perf_counter()
        finally:
            os.close(descriptor)
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return now

    def failed(self, what):
        """The error that says `what` and what the monitor itself said."""
        self.errors.seek(0)
        said = (self.output + self.errors.read()).decode(errors="replace").strip()[-2000:]
        return MonitorFailed(f"{subprocess.list2cmdline(self.argv)}: {what}. It said:\n{said or '(nothing)'}")

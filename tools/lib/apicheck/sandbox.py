"""ravelin where no path, tap or process of the machine can be reached: requests here name them at random."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time

from common import Failure

LIMIT_S = 20
DEVICES = ("kvm", "net/tun")
# The root is a folder of ours, and it ends with the process: what was mounted is in a namespace of its own.
ENTER = """
for device in %s; do
    [ -e "/dev/$device" ] || continue
    mkdir -p "$0/dev/$(dirname "$device")"
    : >"$0/dev/$device"
    mount --bind "/dev/$device" "$0/dev/$device"
done
exec chroot "$0" "$@"
""" % " ".join(DEVICES)


class Monitor:
    """A running `ravelin api` whose root is a folder of ours."""

    def __init__(self, root, process, log):
        self.root, self.process, self.log = root, process, log
        self.socket = os.path.join(root, "api.sock")

    def wait(self):
        """Waits for the socket to accept."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                try:
                    client.connect(self.socket)
                    return
                except OSError:
                    time.sleep(0.01)
        raise Failure(f"ravelin does not serve its socket; it said:\n{self.said()}")

    def check(self):
        """Fails when the process is gone, or does not answer any more."""
        if (status := self.process.poll()) is not None:
            raise Failure(f"ravelin ended with status {status} during the requests; it said:\n{self.said()}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(LIMIT_S)
            client.connect(self.socket)
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answer = client.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise Failure(f"GET / is not answered with 200 after the requests but with {answer[:200]!r}")

    def resident(self):
        """Its resident memory in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))

    def said(self):
        """The end of what it has printed."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2000:].strip() or "(nothing)"


@contextlib.contextmanager
def monitor(binary, files, *flags):
    """Runs `ravelin api` with `flags` over a root that holds `files` (name: path of the original)."""
    root = tempfile.mkdtemp(prefix="rv-api-")
    try:
        for name, original in {"ravelin": binary, **files}.items():
            shutil.copy(original, os.path.join(root, name))
        argv = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "sh", "-c", ENTER, root, "/ravelin",
                "api", "--no-jail", "--name", "check", "--api-sock", "/api.sock", "--quiet", *flags]
        os.mkdir(os.path.join(root, "tmp"))
        # Its own directory of running VMs, in the root as everything else.
        environment = {"RAVELIN_RUNTIME_DIR": "/run", "PATH": os.environ["PATH"]}
        os.mkdir(os.path.join(root, "run"), 0o700)
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            running = Monitor(root, process, log)
            try:
                running.wait()
                yield running
            finally:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(root, ignore_errors=True)

"""The process that owns a testbed's machine: QEMU, and the processes that share folders with it.

It ends them, and itself, when it is told to, when QEMU ends, or when no client has been there for a while; and they
end with it, even when it is killed. Its description comes on stdin as JSON, see host.py; it works in the testbed's
folder. `alive` there is locked as long as it lives, `in-use` is locked by its clients.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

import frames

# Between two questions whether the machine still answers.
ASK_SECONDS = 5
# An answer that is not there by then may have gone astray: the question is asked anew.
ANSWER_SECONDS = 30
# A machine that answers none for so long hangs. It comes up in ten seconds, in twenty under load.
SILENT_SECONDS = 120


class Told(Exception):
    """It was told to end."""


def main():
    description = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, told)
    with open("alive", "a") as alive, open("qemu.log", "wb") as log:
        fcntl.flock(alive, fcntl.LOCK_EX)
        children = []
        try:
            children += [start_share(share, log) for share in description["shares"]]
            machine = start(description["qemu"], log)
            children.append(machine)
            publish(description["state"])
            watch(machine, description["state"])
        except Told:
            pass
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end(children)


def told(*_):
    raise Told


def start(command, log, fds=()):
    """Starts a process; command.py sees to it that it does not outlive this one."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds)


def start_share(share, log):
    """Starts a process that shares a folder, on a socket that QEMU can connect to from now on."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(share["socket"])
        listener.listen(1)
        return start([*share["command"], f"--fd={listener.fileno()}"], log, [listener.fileno()])


def publish(state):
    """Makes known to clients where the machine is."""
    with open("state.new", "w") as file:
        json.dump({**state, "supervisor": os.getpid(), "started": time.time()}, file)
    os.rename("state.new", "state.json")


def watch(machine, state):
    """Returns when the machine has ended, hangs, or nobody used it for the time; then no client can come any more."""
    idle_seconds = state["idle_minutes"] * 60
    used = time.monotonic()
    pulse = Pulse(state["port"])
    while machine.poll() is None:
        if pulse.silent() > SILENT_SECONDS:
            lost(f"it did not answer for {SILENT_SECONDS} s")
            return
        with open("in-use", "a") as file:
            if not lock(file) or time.time() - os.path.getmtime("in-use") < 2:
                used = time.monotonic()
            elif time.monotonic() - used >= idle_seconds:
                withdraw()
                return
        time.sleep(0.5)
    lost(f"QEMU ended by itself with status {machine.returncode}: a panic ends it, with status 0")


def lost(why):
    """Writes down that the machine was lost."""
    with open("lost", "w") as file:
        file.write(why)
    withdraw()


class Pulse:
    """Asks the agent whether it is there, and never waits for the answer."""

    def __init__(self, port):
        self.port = port
        self.question = None
        self.asked = self.answered = time.monotonic()

    def silent(self):
        """For how many seconds it has not answered."""
        if self.question and select.select([self.question], [], [], 0)[0]:
            if self.closed_in_order():
                self.answered = time.monotonic()
            self.question = None
        if time.monotonic() - self.asked >= (ANSWER_SECONDS if self.question else ASK_SECONDS):
            self.ask()
        return time.monotonic() - self.answered

    def ask(self):
        """A request without the secret: the agent reads it, and closes the connection."""
        if self.question:
            self.question.close()
            self.question = None
        self.asked = time.monotonic()
        with contextlib.suppress(OSError):
            self.question = socket.create_connection(("127.0.0.1", self.port), timeout=1)
            self.question.sendall(frames.pack(b"r", b"{}"))

    def closed_in_order(self):
        """Whether the agent has closed the connection; QEMU resets it where nobody listens."""
        with self.question:
            try:
                return self.question.recv(1) == b""
            except OSError:
                return False


def lock(file):
    """Takes the clients' lock while the file is open; whether there is no client."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def withdraw():
    with contextlib.suppress(FileNotFoundError):
        os.unlink("state.json")


def end(children):
    withdraw()
    for child in children:
        child.kill()
    for child in children:
        child.wait()


if __name__ == "__main__":
    main()

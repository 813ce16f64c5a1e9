"""The process that owns a testbed's machine: QEMU, and the processes that share folders with it.

It ends them, and itself, when it is told to, when QEMU ends, or when no client has been there for a while; and they
end with it, even when it is killed. Its description comes on stdin as JSON, see host.py; it works in the testbed's
folder. `alive` there is locked as long as it lives, `in-use` is locked by its clients.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time


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
            watch(machine, description["state"]["idle_minutes"] * 60)
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


def watch(machine, idle_seconds):
    """Returns when the machine has ended or nobody used it for the time; then no client can come any more."""
    used = time.monotonic()
    while machine.poll() is None:
        with open("in-use", "a") as file:
            if not lock(file) or time.time() - os.path.getmtime("in-use") < 2:
                used = time.monotonic()
            elif time.monotonic() - used >= idle_seconds:
                withdraw()
                return
        time.sleep(1)


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


main()

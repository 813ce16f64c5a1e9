"""A testbed as its clients see it: a folder in the cache with what is known of the machine, and locks.

| file | what |
| --- | --- |
| state.json | where the machine is and what it is made of, while it is up |
| token | the secret that clients show to the agent; only this user can read it |
| alive | locked by the supervisor as long as it lives |
| in-use | locked (shared) by each client; changed when a client comes and goes |
| starting | locked while a client looks whether the machine must be started |
| console.log, qemu.log | what the machine and QEMU have said |
| lost | why the machine was lost, when it ended unasked or hung |
| lost.txt | the same and the logs, of the last machine that was lost |

**Lock order: starting, then in-use.** The supervisor takes in-use alone, and never waits for it.
"""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

from common import ROOT, Failure, cache_dir, digest, locked, step

from . import client, command, image, shares

HERE = os.path.dirname(os.path.realpath(__file__))
# Longest wait for the machine to come up; it takes about ten seconds on a quiet host.
UP_SECONDS = 120
IDLE_MINUTES = 15
# How much of each log is kept of a machine that was lost.
LOST_CHARACTERS = 20_000
MEMORY_MIB = 8192
# One: what QEMU emulates goes wrong where two processors run code that one of them rewrites.
CPUS = 1
SECURITY = "apparmor"


class Wish:
    """What a client wants of the machine; None where anything will do."""

    def __init__(self, folders=(), memory=None, cpus=None, idle_minutes=None, security=None):
        self.shares = shares.wanted(folders)
        self.values = {"memory": memory, "cpus": cpus, "idle_minutes": idle_minutes, "security": security}
        # What the machine is made by, the client's other end above all.
        self.version = digest(*image.machine_files(), image.__file__, command.__file__)

    def lacking(self, state):
        """What a machine that is up has not; empty when it will do."""
        lacking = [path for path in self.shares if not shares.covered(path, state["shares"])]
        lacking += [f"{name} {value}" for name, value in self.values.items() if value not in (None, state.get(name))]
        if state["version"] != self.version:
            lacking.append("this checkout's version of it")
        return lacking

    def state(self, before):
        """A new machine's description, which keeps what one before it had."""
        kept = [path for path in before.get("shares", []) if os.path.isdir(path)]
        defaults = {"memory": MEMORY_MIB, "cpus": CPUS, "idle_minutes": IDLE_MINUTES, "security": SECURITY}
        values = {name: self.values[name] or before.get(name, default) for name, default in defaults.items()}
        return {**values, "shares": shares.merge([*self.shares, *kept]), "version": self.version}


class Testbed:
    """One testbed, by name; several may be up at once."""

    def __init__(self, name):
        if not name.replace("-", "").replace("_", "").isalnum():
            raise Failure(f"`{name}` was given as the testbed's name and letters, digits, - and _ were expected")
        self.name = name
        self.folder = cache_dir("testbed", name)
        os.chmod(self.folder, 0o700)

    def path(self, name):
        return os.path.join(self.folder, name)

    def state(self):
        """What is known of the machine that is up, or None."""
        if not self.held("alive"):
            return None
        try:
            with open(self.path("state.json")) as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def held(self, name):
        """Whether some process holds a lock."""
        with open(self.path(name), "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                return True

    def in_use(self):
        """Whether a client runs something. The supervisor looks too, for a moment: hence the second look."""
        with open(self.path("in-use"), "a") as file:
            for pause in (0.1, 0):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return False
                except BlockingIOError:
                    time.sleep(pause)
            return True

    @contextlib.contextmanager
    def lease(self, wish):
        """Brings a machine up that has what is wished for, and keeps it up; gives its state."""
        with contextlib.ExitStack() as stack:
            with locked(self.path("starting"), f"waiting for the testbed {self.name} to come up"):
                use = stack.enter_context(open(self.path("in-use"), "a"))
                state = self.ensure(wish, use)
            stack.callback(os.utime, use.fileno())
            os.utime(use.fileno())
            yield state

    def ensure(self, wish, use):
        """The state of a machine that will do, with the clients' lock held on `use`."""
        while True:
            fcntl.flock(use, fcntl.LOCK_SH)
            state = self.state()
            lacking = wish.lacking(state) if state else []
            if state and not lacking:
                return state
            fcntl.flock(use, fcntl.LOCK_UN)
            if state and self.in_use():
                raise Failure(
                    f"the testbed {self.name} is in use and lacks {', '.join(lacking)}: "
                    "wait for the command in it, or use another one with --name"
                )
            images = image.images()
            if state:
                sys.stderr.write(f"testbed: starting anew, for {', '.join(lacking)}\n")
                self.down()
            self.start_surely(images, wish.state(state or {}))

    def start_surely(self, images, state):
        """Starts the machine, and once more where it did not come up: the emulator has its bad days."""
        try:
            self.start(images, state)
        except Failure as failure:
            sys.stderr.write(f"testbed: {failure}\ntestbed: once more\n")
            self.start(images, state)

    def start(self, images, state):
        """Starts the machine and waits for its agent."""
        state |= {"port": free_port(), "token": secrets.token_hex(16)}
        self.clear()
        self.write_token(state["token"])
        description = {
            "state": state,
            "qemu": command.qemu(images, state, os.path.realpath(self.path("token"))),
            "shares": [
                {"command": command.virtiofsd(path), "socket": command.socket_of(index)}
                for index, path in enumerate(state["shares"])
            ],
        }
        with step(f"starting the testbed {self.name}"):
            supervisor = subprocess.Popen(
                [sys.executable, os.path.join(HERE, "supervisor.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=open(self.path("supervisor.log"), "wb"),
                cwd=self.folder,
                start_new_session=True,
            )
            supervisor.stdin.write(json.dumps(description).encode())
            supervisor.stdin.close()
            self.wait_until_up(supervisor)

    def clear(self):
        """Makes the folder ready for a new machine, and keeps what is known of one that was lost."""
        if os.path.exists(self.path("lost")):
            with open(self.path("lost"), errors="replace") as why, open(self.path("lost.txt"), "w") as kept:
                kept.write(f"{why.read()}\n{self.said(LOST_CHARACTERS)}\n")
            os.unlink(self.path("lost"))
        for name in os.listdir(self.folder):
            if name.endswith((".log", ".sock")) or name in ("state.json", "token"):
                os.unlink(self.path(name))

    def write_token(self, token):
        with open(os.open(self.path("token"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)

    def wait_until_up(self, supervisor):
        deadline = time.monotonic() + UP_SECONDS
        while time.monotonic() < deadline:
            if supervisor.poll() is not None:
                raise Failure(f"the testbed ended while starting:\n{self.said(2000)}")
            state = self.state()
            if state and b"TESTBED-READY" in self.console() and client.ping(state):
                return
            time.sleep(0.1)
        supervisor.terminate()
        supervisor.wait(20)
        raise Failure(f"the testbed did not come up in {UP_SECONDS} s; its console says:\n{self.said(2000)}")

    def console(self):
        try:
            with open(self.path("console.log"), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def said(self, last=None):
        """What the processes and the machine's console have said, or the last characters of each."""
        texts = []
        for name in ("supervisor.log", "qemu.log", "console.log"):
            with contextlib.suppress(OSError), open(self.path(name), errors="replace") as file:
                texts.append(file.read()[-last if last else 0 :])
        return "".join(texts)

    def lost(self):
        """What is known of the last machine that was lost; nothing when none was."""
        try:
            with open(self.path("lost.txt"), errors="replace") as file:
                return f"a testbed was lost: {file.read()}\n"
        except OSError:
            return ""

    def drop(self, state):
        """Ends the machine of `state` when it does not answer, so that the next lease starts a fresh one.

        All who lost it come here; the first one ends it, and the others find it gone, or the next one up.
        """
        with locked(self.path("starting"), f"waiting for the testbed {self.name} to come up"):
            now = self.state()
            if not now or now["token"] != state["token"] or client.ping(now):
                return
            # Only a supervisor whose machine has ended by itself has written it down by now.
            if not os.path.exists(self.path("lost")):
                with open(self.path("lost"), "w") as file:
                    file.write("it did not answer a client")
            self.down()

    def down(self):
        """Ends the machine; returns when it is gone. Whether there was one."""
        state = self.state()
        if not state:
            return False
        os.kill(state["supervisor"], signal.SIGTERM)
        deadline = time.monotonic() + 20
        while self.held("alive"):
            if time.monotonic() > deadline:
                raise Failure(f"process {state['supervisor']} does not end: kill it")
            time.sleep(0.02)
        return True


def default_name():
    """A testbed of its own for each checkout, and each user of it."""
    word = "".join(letter if letter.isalnum() else "-" for letter in os.path.basename(ROOT))
    return f"{word}-{digest(ROOT)[:6]}"


def slot_name(name, slot):
    """The testbed of one of a test runner's slots, which count from 0: the first one's is the one without a number."""
    return name if slot in ("", "0") else f"{name}-{slot}"


def names():
    """The testbeds of this user, up or not."""
    return sorted(os.listdir(cache_dir("testbed")))


def family(name):
    """A testbed and those of further slots, up or not."""
    others = (one for one in names() if one.startswith(f"{name}-") and one.removeprefix(f"{name}-").isdigit())
    return [name, *others]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

"""The testbed's machine as a process: QEMU emulating a processor with SVM, so that a true KVM runs inside.

A supervisor process owns QEMU and the processes that share folders. It ends them, and itself, when told to, when
QEMU ends, or when no client has been there for a while: nothing is left running.
"""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

from common import ROOT, Failure, cache_dir, step

from . import client, image

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
# Longest wait for the machine to come up; it takes about ten seconds on a quiet host.
UP_SECONDS = 180
IDLE_MINUTES = 15


class Testbed:
    """One testbed, by name; several may be up at once."""

    def __init__(self, name):
        if not name.replace("-", "").replace("_", "").isalnum():
            raise Failure(f"`{name}` was given as the testbed's name and letters, digits, - and _ were expected")
        self.name = name
        self.folder = cache_dir("testbed", name)

    def path(self, name):
        return os.path.join(self.folder, name)

    def state(self):
        """What is known of the machine that is up, or None."""
        try:
            with open(self.path("state.json")) as file:
                state = json.load(file)
            os.kill(state["supervisor"], 0)
            return state
        except (OSError, ValueError, KeyError):
            return None

    def in_use(self):
        """A lock that a client holds while it runs something: the supervisor's clock stands still."""
        file = open(self.path("in-use"), "a")
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(file.fileno())
        return file

    def up(self, shares, memory, cpus):
        """Brings the machine up, if it is not."""
        state = self.state()
        wanted = share_list(shares)
        if state:
            missing = [path for path in wanted if not covered(path, state["shares"])]
            if not missing:
                return state
            sys.stderr.write(f"testbed: starting anew, to share {', '.join(missing)}\n")
            self.down()
        images = image.images()
        with step("starting the testbed"):
            return self.start(images, wanted, memory, cpus)

    def start(self, images, shares, memory, cpus):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        state = {"port": port, "token": secrets.token_hex(16), "shares": shares}
        for name in ("console.log", "qemu.log", "state.json", "ended"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        self.in_use().close()
        if os.fork() == 0:
            supervise(self, state, images, memory, cpus)
        deadline = time.monotonic() + UP_SECONDS
        while time.monotonic() < deadline:
            state = self.state() or state
            if self.ready() and client.ping(state):
                return state
            if os.path.exists(self.path("ended")):
                raise Failure(f"the testbed ended while starting:\n{self.tail()}")
            time.sleep(0.1)
        self.down()
        raise Failure(f"the testbed did not come up in {UP_SECONDS} s; its console says:\n{self.tail()}")

    def ready(self):
        try:
            with open(self.path("console.log"), "rb") as file:
                return b"TESTBED-READY" in file.read()
        except OSError:
            return False

    def tail(self):
        text = ""
        for name in ("qemu.log", "console.log"):
            try:
                with open(self.path(name), errors="replace") as file:
                    text += file.read()[-2000:]
            except OSError:
                pass
        return text

    def down(self):
        """Ends the machine; returns when it is gone."""
        state = self.state()
        if not state:
            return False
        os.kill(state["supervisor"], signal.SIGTERM)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.state():
            time.sleep(0.05)
        return True


def share_list(extra):
    """The folders that commands in the testbed see under their own paths."""
    wanted = [ROOT, cache_dir(), *extra]
    if os.environ.get("CARGO_TARGET_DIR"):
        wanted.append(os.environ["CARGO_TARGET_DIR"])
    paths = []
    for path in sorted({os.path.realpath(path) for path in wanted}, key=len):
        if not os.path.isdir(path):
            continue
        if any(character in path for character in " ,:=\n"):
            raise Failure(f"the folder {path} cannot be shared: its name has a space, comma, colon or equals sign")
        if not covered(path, paths):
            paths.append(path)
    return paths


def covered(path, shares):
    """Whether a folder lies in one of the shared ones."""
    return any(path == share or path.startswith(share + "/") for share in shares)


def supervise(testbed, state, images, memory, cpus):
    """Runs in a process of its own until the machine is to end."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, 256)
    children = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        log = open(testbed.path("qemu.log"), "wb")
        arguments = share(testbed, state["shares"], children, log)
        command = qemu(testbed, state, images, memory, cpus) + arguments
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        children.append(machine)
        state["supervisor"] = os.getpid()
        scratch = testbed.path("state.new")
        with open(scratch, "w") as file:
            json.dump(state, file)
        os.rename(scratch, testbed.path("state.json"))
        while machine.poll() is None and not idle(testbed):
            time.sleep(1)
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()
        open(testbed.path("ended"), "w").close()
        if os.path.exists(testbed.path("state.json")):
            os.unlink(testbed.path("state.json"))
        os._exit(0)


def idle(testbed):
    """Whether no client has been there for a while."""
    path = testbed.path("in-use")
    if time.time() - os.path.getmtime(path) < IDLE_MINUTES * 60:
        return False
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False


def share(testbed, paths, children, log):
    """Starts one process a shared folder; QEMU's arguments for them."""
    arguments = []
    for index, path in enumerate(paths):
        listener = testbed.path(f"share{index}.sock")
        if os.path.exists(listener):
            os.unlink(listener)
        command = [VIRTIOFSD, f"--socket-path={listener}", "-o", f"source={path}", "-o", "cache=auto"]
        children.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        deadline = time.monotonic() + 10
        while not os.path.exists(listener) and time.monotonic() < deadline:
            time.sleep(0.01)
        arguments += ["-chardev", f"socket,id=share{index},path={listener}"]
        arguments += ["-device", f"vhost-user-fs-pci,chardev=share{index},tag=share{index}"]
    return arguments


def qemu(testbed, state, images, memory, cpus):
    """QEMU's command line."""
    kernel, initramfs, root = images
    words = [
        "console=ttyS0 mitigations=off quiet loglevel=4 panic=-1 audit=0 tsc=reliable no_timer_check",
        "random.trust_cpu=on net.ifnames=0 8250.nr_uarts=1",
        f"testbed.token={state['token']}",
    ]
    words += [f"testbed.share=share{index}:{path}" for index, path in enumerate(state["shares"])]
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-M", "pc,usb=off,vmport=off,smm=off", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max",
        "-smp", str(cpus), "-m", str(memory),
        "-object", f"memory-backend-memfd,id=memory,size={memory}M,share=on", "-numa", "node,memdev=memory",
        "-kernel", kernel, "-initrd", initramfs, "-append", " ".join(words),
        "-serial", f"file:{testbed.path('console.log')}",
        "-drive", f"file={root},format=raw,if=none,id=root,snapshot=on,cache=unsafe",
        "-device", "virtio-blk-pci,drive=root",
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{state['port']}-:7000",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
    ]  # fmt: skip

"""What a paused VM is charged by the kernel, as one of many: pages, and the kernel's own records of it."""

import argparse
import contextlib
import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import common

from . import host, report
from .experiments import Figure
from .monitors import Ravelin
from .process import MonitorFailed

LIMIT_S = 60
MEMORY_MIB = 128
BINARY = os.path.join(common.ROOT, "target/x86_64-unknown-linux-gnu/release/ravelin")
WALLS = os.path.join(common.ROOT, "tools/payload/target/x86_64-unknown-linux-gnu/release/examples/walls")
EPILOG = """\
Every VM's processes are in one control group: the monitor, and in its jail also warden and keeper. The first VM is there
before the counting begins: what all share (the program's pages in the page cache) is charged to it. The guest halts at its
first instruction and is paused then; the few pages that it was loaded into are counted, and are huge ones where
transparent_hugepage/enabled says `always`. Needs root, and cgroups of memory.
The kernel counts in batches: ten VMs and more are told exactly enough. Where a KVM is not one of hardware, its records are
others: the testbed has kvm-amd.

  tools/bench crowd                                       here
  tools/testbed run -- tools/bench crowd --binary PATH    there
  tools/bench crowd --walls                               the least that such walls can cost
"""


class Group:
    """A control group of memory, for everything that is started in it. A context: it goes at its end."""

    def __enter__(self):
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = [line.strip().split(":", 2) for line in file]
        old = [path for _, controllers, path in lines if "memory" in controllers.split(",")]
        self.is_old = bool(old)
        name = f"ravelin-bench-{os.getpid()}"
        top = "/sys/fs/cgroup/memory" + old[0] if self.is_old else "/sys/fs/cgroup"
        self.path = os.path.join(top, name)
        self.inside = os.path.join(self.path, "outside")
        os.mkdir(self.path)
        if not self.is_old:
            for place in (top, self.path):
                self._write(os.path.join(place, "cgroup.subtree_control"), "+memory")
        os.mkdir(self.inside)
        return self

    def __exit__(self, *_):
        for folder in (self.inside, self.path):
            self._remove(folder)

    @staticmethod
    def _remove(folder):
        """Removes an empty group. What was not started from here ends in its own time, which is waited for."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                return os.rmdir(folder)
            except FileNotFoundError:
                return None
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    @staticmethod
    def _write(path, text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def enter(self):
        """Moves the calling process into it."""
        self._write(os.path.join(self.inside, "cgroup.procs"), "0")

    def _number(self, name):
        with open(os.path.join(self.path, name), encoding="utf-8") as file:
            return int(file.read())

    def charged(self):
        """Bytes in all, and the kernel's own."""
        if self.is_old:
            return self._number("memory.usage_in_bytes"), self._number("memory.kmem.usage_in_bytes")
        with open(os.path.join(self.path, "memory.stat"), encoding="utf-8") as file:
            kernel = next(int(line.split()[1]) for line in file if line.startswith("kernel "))
        return self._number("memory.current"), kernel


class Crowd:
    """Many of one kind, in a group. A context: they end with it."""

    def __init__(self, kind, folder, group):
        self.kind, self.folder, self.group = kind, folder, group
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.send_signal(signal.SIGINT)  # at once; a guest that halts hears no power button
        for child in self.children:
            try:
                child.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                child.kill()

    def add(self):
        """Starts one, and waits until it is at rest."""
        child = subprocess.Popen(**self.kind.command(self.folder, len(self.children)), preexec_fn=self.group.enter,
                                 stdin=subprocess.DEVNULL)
        self.children.append(child)
        deadline = time.monotonic() + LIMIT_S
        while not self.kind.rests(child, self.folder, len(self.children) - 1):
            if child.poll() is not None or time.monotonic() > deadline:
                raise MonitorFailed(f"{child.args[0]} does not come to rest (status {child.returncode})")
            time.sleep(0.01)


class Paused:
    """A VM of a monitor that is paused at its guest's first instruction."""

    def __init__(self, monitor):
        self.monitor, self.name = monitor, monitor.name

    @staticmethod
    def _socket(folder, number):
        return os.path.join(folder, f"{number}.sock")

    def command(self, folder, number):
        """What Popen is to start."""
        kernel = os.path.join(folder, "kernel")
        with open(kernel, "wb") as file:
            file.write(halting())
        words = [self.monitor.binary, "run", "--quiet", *self.monitor.jail, "--kernel", kernel,
                 "--mem", f"{MEMORY_MIB}M", "--console", "off", "--api-sock", self._socket(folder, number)]
        return {"args": words}

    def rests(self, _child, folder, number):
        """Whether it is paused; asks it to, as soon as it can be asked."""
        client = http.client.HTTPConnection("localhost", timeout=LIMIT_S)
        client.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(client), contextlib.suppress(OSError):
            client.sock.connect(self._socket(folder, number))
            client.request("PATCH", "/vm", '{"state": "Paused"}')
            return client.getresponse().status == 204
        return False


class Waiting:
    """No VM at all: a process that waits, or two of them with walls between."""

    def __init__(self, binary, mode, name):
        self.binary, self.mode, self.name = binary, mode, name

    def command(self, _folder, _number):
        """What Popen is to start."""
        return {"args": [self.binary, self.mode], "stdout": subprocess.PIPE}

    @staticmethod
    def rests(child, _folder, _number):
        """Whether it has said so."""
        return child.stdout.readline() == b"ready\n"


def halting():
    """A kernel that does nothing: an ELF file with `cli; hlt; jmp -3` at 1 MiB."""
    code = bytes([0xFA, 0xF4, 0xEB, 0xFD])
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x100000, 0x100000, len(code), len(code), 0x1000)
    return head.ljust(0x1000, b"\0") + code


def measure(kind, count, folder):
    """KiB that each of `count` of a kind is charged, and the kernel's part of it."""
    with Group() as group, Crowd(kind, folder, group) as crowd:
        crowd.add()
        before = group.charged()
        for _ in range(count):
            crowd.add()
        after = group.charged()
    return [(late - early) / count / 1024 for early, late in zip(before, after)]


def kinds(options):
    """What is measured, in this order."""
    if options.walls:
        path = options.binary or WALLS
        return [Waiting(path, "alone", "one process"), Waiting(path, "inside", "one, behind walls"),
                Waiting(path, "seven", "two, the second behind walls")]
    return [Paused(Ravelin(options.binary or BINARY, "open")), Paused(Ravelin(options.binary or BINARY, "jailed", jail=True))]


def build(options):
    """Builds what is measured."""
    words, folder = ["--package", "ravelin"], common.ROOT
    if options.walls:
        words, folder = ["--example", "walls"], os.path.join(common.ROOT, "tools/payload")
    subprocess.run(["cargo", "build", "--release", "--quiet", *words], cwd=folder, check=True)


def main(words):
    """Measures and reports; the exit status."""
    parser = argparse.ArgumentParser(prog="tools/bench crowd", description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=20, metavar="N", help="how many (default: 20)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs, with and without a jail in turns (default: 3)")
    parser.add_argument("--walls", action="store_true",
                        help="what walls alone cost: a process, one in seven namespaces, and two with these between")
    parser.add_argument("--binary", metavar="PATH",
                        help="the binary, ravelin's or that of the walls (default: a release build of this checkout)")
    parser.add_argument("--json", action="store_true", help="print every value as JSON instead of the table")
    options = parser.parse_args(words)
    if options.vms < 1 or options.runs < 1:
        parser.error("--vms and --runs: a number from 1 on is needed")
    crowds = kinds(options)
    about = host.facts() | {"runs": options.runs, "of each": options.vms}
    charged, kernel = ({one.name: [] for one in crowds} for _ in range(2))
    try:
        if not options.binary:
            build(options)
        for run in range(options.runs):
            for kind in crowds:
                print(f"run {run + 1} of {options.runs}: {kind.name}", file=sys.stderr)
                with host.scratch("/dev/shm") as folder:
                    both = measure(kind, options.vms, folder)
                charged[kind.name].append(both[0])
                kernel[kind.name].append(both[1])
    except (MonitorFailed, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}; tools/bench crowd --help says what it needs", file=sys.stderr)
        return 1
    results = {Figure("charged for each", "KiB"): charged, Figure("the kernel's part", "KiB"): kernel}
    about |= {"load at the end": host.load()}
    print(report.whole(results, crowds, about, options.json))
    return 0

"""Containers of a containerd of one's own, in microVMs beside runc: time to the first output and its parts, and memory."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import common
from pods import archive

from . import host, report, smaps
from .experiments import Figure
from .process import MonitorFailed

IMAGE = "docker.io/library/busybox:bench"
RUNTIMES = {"ravelin": "io.containerd.ravelin.v2", "runc": "io.containerd.runc.v2"}
MEMORY_MIB = 512
LIMIT_S = 150
# What the shim says of each start, and the rest, which is ctr's, containerd's and the command's.
PARTS = ("disk", "disk (cached)", "jail", "monitor", "kernel", "agent", "container")
MADE = re.compile(r"container (\S+) is made: ([^\"\\]*)")
PART = re.compile(r"([a-z][a-z ()]*) (\d+) ms")
TARGET = os.path.join(common.ROOT, "target/x86_64-unknown-linux-gnu/release")
EPILOG = """\
Needs root, containerd, runc, and a KVM that boots Linux. Where this machine's cannot, the testbed has all of them:

  cargo build --release -p ravelin -p shim; tools/guest all
  tools/testbed run -- tools/bench pods

There everything is emulated: compare times with each other only; memory is what it is.
"""


def made(log, name):
    """The parts of a container's start in ms, as the shim has logged them."""
    lines = [parts for one, parts in MADE.findall(log) if one == name]
    return {part: float(ms) for part, ms in PART.findall(lines[-1])} if lines else {}


class Engine:
    """A containerd with an image in it. A context: it ends with its containers."""

    def __init__(self, folder, ravelin, shim, kit):
        self.folder, self.child = folder, None
        self.socket, self.cache = os.path.join(folder, "c.sock"), os.path.join(folder, "cache")
        path = os.path.dirname(shim) + os.pathsep + os.environ["PATH"]
        self.environ = os.environ | {"PATH": path, "RAVELIN_CONFIG": self._write("ravelin.toml", {
            "ravelin": ravelin, "kernel": kit["vmlinux-trimmed"], "agent": kit["agent.cpio"], "cache": self.cache,
            "memory_mib": MEMORY_MIB, "start_seconds": LIMIT_S, "answer_seconds": LIMIT_S})}

    def _write(self, name, table):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        return path

    def __enter__(self):
        config = self._write("config.toml", {
            "version": 2, "root": os.path.join(self.folder, "root"), "state": os.path.join(self.folder, "state"),
            "disabled_plugins": ["io.containerd.grpc.v1.cri"], "grpc.address": self.socket,
            "ttrpc.address": self.socket + ".ttrpc"})
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.child = subprocess.Popen(["containerd", "--config", config], env=self.environ, stdout=log, stderr=log)
        try:
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _fill(self):
        deadline = time.monotonic() + LIMIT_S
        while self.ctr("version", check=False).returncode:
            if time.monotonic() > deadline:
                raise MonitorFailed(f"containerd does not answer. It said:\n{self.log()[-2000:]}")
            time.sleep(0.1)
        image = os.path.join(self.folder, "image.tar")
        archive.main([image, IMAGE])
        self.ctr("image", "import", image)

    def __exit__(self, *_):
        for task in self.ctr("task", "ls", "-q", check=False).stdout.split():
            self.ctr("task", "rm", "-f", task, check=False)
        self.child.kill()
        self.child.wait()

    def log(self):
        """What containerd and the shims have said."""
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def ctr(self, *words, check=True):
        """Runs ctr to its end."""
        done = subprocess.run(["ctr", "--address", self.socket, *words], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=LIMIT_S, check=False)
        if check and done.returncode:
            raise MonitorFailed(f"ctr {' '.join(words)}: {done.stderr.strip()}\n{self.log()[-2000:]}")
        return done

    def first_output(self, runtime, name):
        """From just before ctr is started to the container's first byte, in ms."""
        words = ["ctr", "--address", self.socket, "run", "--rm", "--runtime", RUNTIMES[runtime], IMAGE, name, "echo", "x"]
        before = time.perf_counter()
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
            byte = child.stdout.read(1)
            spent = time.perf_counter() - before
        if byte != b"x":
            raise MonitorFailed(f"{name} printed nothing:\n{self.log()[-2000:]}")
        return spent * 1e3

    def memory(self, runtime, name, together):
        """The memory of one of several containers that sleep, PSS in KiB, on an average: its shim's, its monitor's, its guest's."""
        names = [f"{name}-{number}" for number in range(together)]
        for one in names:
            self.ctr("run", "-d", "--null-io", "--runtime", RUNTIMES[runtime], IMAGE, one, "sleep", "1000")
        pids = dict(line.split()[:2] for line in self.ctr("task", "ls").stdout.splitlines()[1:])
        found = [resident(runtime, int(pids[one])) for one in names]
        for one in names:
            self.ctr("task", "rm", "-f", one, check=False)
            self.ctr("container", "rm", one)
        return {what: sum(one[what] for one in found) / together for what in found[0]}


def resident(runtime, pid):
    """The memory of one container, PSS in KiB, by its task's process."""
    first = parent(pid)
    if runtime == "runc":
        return {"shim": pss(first)[0]}
    (cell, guest), (warden, _) = pss(pid), pss(first)
    return {"shim": pss(parent(first))[0], "monitor": cell + warden, "guest": guest}


def parent(pid):
    """The process that has started another."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def pss(pid):
    """A process's own memory and its guest's, PSS in KiB."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        own, guest = split(smaps.parse(file.read()), MEMORY_MIB << 20)
    return smaps.total(own)["pss"], smaps.total(guest)["pss"]


def split(mappings, guest_bytes):
    """A process's own mappings and its guest's: a range of `guest_bytes` with the kernel's file and the agent's mapped into it."""
    ends = {one.end for one in mappings}
    starts = [one.start for one in mappings if one.start + guest_bytes in ends]
    largest = max(mappings, key=lambda one: one.end - one.start)
    start = next((start for start in starts if start <= largest.start < start + guest_bytes), None)
    if start is None:
        return mappings, []
    is_guests = [start <= one.start < start + guest_bytes for one in mappings]
    return ([one for one, guests in zip(mappings, is_guests) if not guests],
            [one for one, guests in zip(mappings, is_guests) if guests])


def measure(engine, runs, together):
    """Runs everything in turns; the values of both runtimes, and those of ravelin's alone."""
    times = {"ravelin": [], "runc": []}
    anew, parts, memory = [], {part: [] for part in (*PARTS, "rest")}, {"ravelin": [], "runc": []}
    # What is read from a disk for the first time is another measurement.
    for runtime in RUNTIMES:
        engine.first_output(runtime, "warm-" + runtime)
    for run in range(runs):
        print(f"run {run + 1} of {runs}", file=sys.stderr)
        shutil.rmtree(engine.cache)
        for kind in ("anew", "cached"):
            name = f"{kind}-{run}"
            spent = engine.first_output("ravelin", name)
            (anew if kind == "anew" else times["ravelin"]).append(spent)
            found = made(engine.log(), name)
            for part, value in (found | {"rest": spent - sum(found.values())}).items():
                parts[part].append(value)
        times["runc"].append(engine.first_output("runc", f"runc-{run}"))
        for runtime in RUNTIMES:
            memory[runtime].append(engine.memory(runtime, f"memory-{runtime}-{run}", together))
    both = {Figure("ctr run to first output, disk cached", "ms"): times}
    both[Figure("shim, PSS", "KiB")] = {name: [one["shim"] for one in many] for name, many in memory.items()}
    alone = {Figure("ctr run to first output, disk made anew", "ms"): {"ravelin": anew}}
    alone |= {Figure(f"part of a start: {part}", "ms"): {"ravelin": values} for part, values in parts.items() if values}
    for what in ("monitor", "guest"):
        alone[Figure(f"{what}, PSS", "KiB")] = {"ravelin": [one[what] for one in memory["ravelin"]]}
    return both, alone


def main(words):
    """Measures and reports; the exit status."""
    parser = argparse.ArgumentParser(prog="tools/bench pods", description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each (default: 5)")
    parser.add_argument("--together", type=int, default=1, metavar="N",
                        help="containers at a time whose memory is looked at (default: 1); what they share counts once")
    parser.add_argument("--json", action="store_true", help="print every value as JSON instead of the tables")
    options = parser.parse_args(words)
    ravelin = os.environ.get("RAVELIN_BIN", os.path.join(TARGET, "ravelin"))
    shim = os.environ.get("RAVELIN_SHIM", os.path.join(TARGET, "containerd-shim-ravelin-v2"))
    about = host.facts() | {"runs": options.runs, "containers whose memory is looked at": options.together}
    try:
        kit = json.loads(subprocess.check_output([os.path.join(common.ROOT, "tools/guest"), "--json"]))
        with tempfile.TemporaryDirectory(prefix="ravelin-bench-") as folder:
            with Engine(folder, ravelin, shim, kit) as engine:
                both, alone = measure(engine, max(1, options.runs), max(1, options.together))
    except (MonitorFailed, OSError, KeyError, subprocess.SubprocessError) as error:
        print(f"bench: {error}; tools/bench pods --help says what it needs", file=sys.stderr)
        return 1
    about |= {"load at the end": host.load()}
    if options.json:
        print(report.as_json(both | alone, about))
        return 0
    names = [argparse.Namespace(name=name) for name in RUNTIMES]
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    for results, columns in ((both, names), (alone, names[:1])):
        print("\n" + report.text(report.rows(results, columns)))
    return 0

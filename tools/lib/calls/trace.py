"""The kernel's own record of system calls (Linux Documentation/trace/ftrace.rst)."""

import contextlib
import os
import re
import subprocess
import tempfile
import threading

import common

PLACE = "/sys/kernel/tracing"
# What a monitor's threads are called; the kernel counts in single names and beginnings.
FILTER = " || ".join(
    [f'comm ~ "{name}"' for name in ("vcpu*", "io*", "fc_vcpu*")]
    + [f'comm == "{name}"' for name in ("ravelin", "firecracker", "api", "fc_api")]
)
# Of each processor, in KiB: what is not read in time is lost, and that is told.
BUFFER = 32 << 10
LINE = re.compile(rb"^ *(.+)-(\d+) +\[\d+\].* sys_enter: NR (-?\d+) \(([0-9a-f, ]*)\)")
LOST = re.compile(rb"LOST (\d+) EVENTS")


@contextlib.contextmanager
def tracefs():
    """The folder of the kernel's tracing, mounted here if it is nowhere yet."""
    if os.path.exists(f"{PLACE}/events"):
        yield PLACE
        return
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tracefs", "none", place], capture_output=True, text=True)
        if mounted.returncode != 0:
            raise common.Failure(f"the kernel's tracing cannot be had ({mounted.stderr.strip()}): run this as root of the host")
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def instance(place):
    """A record of our own, beside everybody else's."""
    own = f"{place}/instances/ravelin-{os.getpid()}"
    os.mkdir(own)
    try:
        yield own
    finally:
        write(own, "events/raw_syscalls/sys_enter/enable", "0")
        os.rmdir(own)


def write(own, name, text):
    with open(f"{own}/{name}", "w", encoding="ascii") as file:
        file.write(text)


def parse(line):
    """The thread's name and number, the call's number and its arguments; nothing where a line tells of none."""
    found = LINE.match(line)
    if not found:
        return None
    name, thread, number, arguments = found.groups()
    return name.decode(errors="replace"), int(thread), int(number), [int(word, 16) for word in arguments.split(b",")]


def watch(command, see):
    """Runs a command and tells `see` of each call; its exit status, and how many calls were lost."""
    with tracefs() as place, instance(place) as own:
        write(own, "buffer_size_kb", str(BUFFER))
        write(own, "events/raw_syscalls/sys_enter/filter", FILTER)
        write(own, "events/raw_syscalls/sys_enter/enable", "1")
        over, lost = threading.Event(), []
        reader = threading.Thread(target=read, args=(f"{own}/trace_pipe", see, lost, over))
        reader.start()
        try:
            status = subprocess.run(command, cwd=common.ROOT).returncode
        finally:
            over.set()
            reader.join()
        return status, sum(lost)


def read(path, see, lost, over):
    pipe, rest = os.open(path, os.O_RDONLY | os.O_NONBLOCK), b""
    try:
        while True:
            try:
                chunk = os.read(pipe, 1 << 20)
            except BlockingIOError:
                if over.is_set():
                    return
                over.wait(0.05)
                continue
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if call := parse(line):
                    see(*call)
                elif missed := LOST.search(line):
                    lost.append(int(missed[1]))
    finally:
        os.close(pipe)

"""The memory of a monitor process without its guest's, from /proc/PID/smaps."""

import os
from dataclasses import dataclass, field

FIELDS = {"Rss": "rss", "Pss": "pss", "Private_Dirty": "dirty"}


@dataclass
class Mapping:
    """One mapping; sizes in KiB."""

    start: int
    end: int
    path: str
    kib: dict = field(default_factory=dict)


def parse(text):
    """The mappings of an smaps file."""
    mappings = []
    for line in text.splitlines():
        words = line.split()
        if words[0].endswith(":"):
            name = FIELDS.get(words[0][:-1])
            if name:
                mappings[-1].kib[name] = int(words[1])
        else:
            start, end = (int(word, 16) for word in words[0].split("-"))
            mappings.append(Mapping(start, end, " ".join(words[5:])))
    return mappings


def without_guest(mappings, guest_bytes):
    """The mappings that are not guest memory.

    Guest memory is one range of `guest_bytes`, but not always one mapping: a monitor may map the kernel's file into
    it. The largest mapping is its upper end; everything else in the range goes with it.
    """
    largest = max(mappings, key=lambda one: one.end - one.start)
    start = min(largest.start, largest.end - guest_bytes)
    return [one for one in mappings if one.end <= start or one.start >= largest.end]


def total(mappings):
    """The sums of each field over the mappings, in KiB."""
    return {name: sum(one.kib.get(name, 0) for one in mappings) for name in FIELDS.values()}


def measure(pid, guest_bytes):
    """Memory in KiB without the guest's, threads and open files of a process and its children."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        mappings = parse(file.read())
    figures = total(without_guest(mappings, guest_bytes) if _holds(mappings, guest_bytes) else mappings)
    figures["threads"] = len(os.listdir(f"/proc/{pid}/task"))
    figures["fds"] = len(os.listdir(f"/proc/{pid}/fd"))
    for child in _children(pid):
        for name, value in measure(child, guest_bytes).items():
            figures[name] += value
    return figures


def _holds(mappings, guest_bytes):
    """Whether the process maps the guest at all: its helper processes need not."""
    return max((one.end - one.start for one in mappings), default=0) > guest_bytes // 2


def _children(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="utf-8") as file:
            yield from map(int, file.read().split())

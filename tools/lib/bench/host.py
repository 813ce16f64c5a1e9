"""The host: what the figures were measured on, and what the experiments borrow from it."""

import contextlib
import ctypes
import fcntl
import os
import platform
import shutil
import socket
import struct
import tempfile

CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
TAP = "bench0"
DISK_MIB = 256


def facts():
    """What a reader of the figures has to know about the machine."""
    return {
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 20} MiB",
        "kernel": platform.release(),
        "kvm": _kvm(),
        "load": load(),
    }


def load():
    """The machine's load over the last minute, five and fifteen, as text."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _kvm():
    loaded = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if os.path.isdir(f"/sys/module/{name}")]
    return " ".join(loaded) or "unknown"


def settle(path):
    """Has a file written back: the dirty pages of a fresh binary would count as its process's own."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scratch(parent):
    """A directory of ours in `parent`, removed at the end."""
    path = tempfile.mkdtemp(prefix="ravelin-bench-", dir=parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def disk(directory):
    """A disk image whose every page is there; made once."""
    path = os.path.join(directory, "disk.img")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            for number in range(DISK_MIB):
                file.write(bytes([1 + number % 255]) * (1 << 20))
    return path


_tap = None


def tap():
    """The name of a tap that drops what it is sent, in a network namespace that this process moves into; made once.

    The namespace and the tap vanish with this process.
    """
    global _tap
    if _tap is None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            error = os.strerror(ctypes.get_errno())
            raise OSError(f"a network namespace cannot be made ({error}): run the net figures as root")
        with open("/dev/net/tun", "r+b", buffering=0) as tun:
            request = struct.pack("16sH22x", TAP.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
            fcntl.ioctl(tun, TUNSETIFF, request)
            fcntl.ioctl(tun, TUNSETPERSIST, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sH22x", TAP.encode(), 0)
            flags = struct.unpack("16sH22x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", TAP.encode(), flags | IFF_UP))
        _tap = TAP
    return _tap

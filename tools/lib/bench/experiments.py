"""What is measured: each experiment runs a guest once and gives a value for each of its figures."""

from dataclasses import dataclass
from typing import Callable

from . import api, host, smaps, vsock
from .monitors import MEMORY_MIB, Guest
from .process import MARK, Process

SETTLED = 300_000_000  # cycles, about 0.1 s
RING = "payload.features=event_idx,indirect"  # what Linux's drivers accept


@dataclass(frozen=True)
class Figure:
    """A number that is reported: its name, its unit, how it is printed and what is aimed at."""

    name: str
    unit: str
    digits: int = 0
    aim: str = ""


@dataclass(frozen=True)
class Experiment:
    """One run of a guest and the figures it gives."""

    figures: tuple
    run: Callable  # (Bench, monitor) -> a value for each figure
    devices: bool = True


@dataclass
class Bench:
    """What every experiment needs: the payload, a directory in memory, and the speed of the cycle counter."""

    kernel: str
    scratch: str
    hz: float = 0.0

    def start(self, monitor, guest):
        """Starts `guest` under `monitor`."""
        return Process(monitor.argv(self.kernel, guest, self.scratch))

    def serve(self, monitor, path):
        """Starts `monitor` with a socket at `path`."""
        return Process(monitor.api_argv(path))

    def calibrate(self, monitor):
        """Measures the cycle counter against this machine's clock."""
        rates = []
        for _ in range(3):
            with self.start(monitor, Guest("payload=spin:500000000")) as process:
                start = process.read_until(b"spin start")
                end = process.read_until(b"spin end")
                rates.append(500_000_000 / (end - start))
        self.hz = sorted(rates)[1]


def start(bench, monitor):
    """From exec to the guest's first instruction, in ms."""
    with bench.start(monitor, Guest("payload=reset")) as process:
        first = process.read_until(MARK)
        process.wait()
        return ((first - process.started) * 1e3,)


def end(bench, monitor):
    """From the guest's reset to the end of the process, in ms.

    The guest runs for a while first: what KVM set up in the kernel settles for some 20 ms, and an end before that
    waits for it, under any monitor.
    """
    with bench.start(monitor, Guest(f"payload=spin:{SETTLED}")) as process:
        process.read_line("spin end")
        return ((process.wait() - process.came) * 1e3,)


def memory(bench, monitor):
    """Memory in KiB without the guest's, threads and files of a monitor whose guest runs."""
    with bench.start(monitor, Guest("payload=idle")) as process:
        process.read_until(b"idle\n")
        found = smaps.measure(process.pid, MEMORY_MIB << 20)
        return tuple(found[name] for name in ("rss", "pss", "dirty", "threads", "fds"))


def block(kind, size, depth, engine, count):
    """Requests a second of a disk in memory."""

    def run(bench, monitor):
        work = f"payload=blk:{kind}:{size}:{depth}:{count} {RING}"
        with bench.start(monitor, Guest(work, disk=host.disk(bench.scratch), engine=engine)) as process:
            words = process.read_line("blk " + kind)
            if words[words.index("errors") + 1] != "0":
                raise process.failed("the disk gave errors")
            return (count * bench.hz / int(words[words.index("cycles") + 1]),)

    return run


def net(size, batch, count):
    """Frames a second that the guest sends to a tap that drops them."""

    def run(bench, monitor):
        work = f"payload=net:tx:{size}:{batch}:{count} {RING}"
        with bench.start(monitor, Guest(work, tap=host.tap())) as process:
            words = process.read_line("net tx")
            return (count * bench.hz / int(words[words.index("cycles") + 1]),)

    return run


def _block(kind, label, size, depth, count, aims):
    for engine in ("sync", "uring"):
        figure = Figure(f"block {kind} {label} depth {depth} {engine}", "IOPS", aim=aims.get(kind, ""))
        yield Experiment((figure,), block(kind, size, depth, engine, count))


def _blocks():
    for kind in ("read", "write"):
        yield from _block(kind, "4 KiB", 4096, 1, 20_000, {"read": "> 45,000 (1.3 x)"})
        yield from _block(kind, "4 KiB", 4096, 32, 200_000, {"read": "> 357,000 (1.5 x)", "write": "1.5 x"})
        yield from _block(kind, "128 KiB", 131_072, 8, 20_000, {"read": "> 40,000 (1.2 x)"})


def _apis():
    def one(run, *figures):
        return Experiment(figures, run)

    yield one(api.accepts, Figure("api exec to socket accepts", "ms", 2, "< 1.0 minimum, 1.4 median (0.7 x)"))
    yield one(
        api.instance_start,
        Figure("api InstanceStart to first guest instruction", "ms", 2, "< 3.0 minimum, 3.7 median (0.35 x)"),
    )
    yield one(api.round_trip, Figure("api GET / round trip", "us", aim="< 150"))
    yield one(api.idle, Figure("api idle private dirty", "KiB", aim="< 300"), Figure("api idle PSS", "KiB"))
    yield one(
        api.running,
        Figure("api with disk and tap private dirty", "KiB"),
        Figure("api with disk and tap threads", "", aim="<= 5"),
        Figure("api with disk and tap open files", "", aim="< 25"),
    )


EXPERIMENTS = (
    Experiment(
        (Figure("exec to first guest instruction", "ms", 2, "about 4 minimum (0.4 x)"),), start, devices=False
    ),
    Experiment((Figure("guest reset to process gone", "ms", 2, "< 1.6 minimum (0.3 x)"),), end, devices=False),
    Experiment(
        (
            Figure("memory RSS", "KiB"),
            Figure("memory PSS", "KiB", aim="< 2,000"),
            Figure("memory private dirty", "KiB", aim="< 250"),
            Figure("threads", ""),
            Figure("open files", ""),
        ),
        memory,
        devices=False,
    ),
    *_apis(),
    *_blocks(),
    Experiment((Figure("net send 64 B depth 1", "pps", aim="> 35,000 (1.3 x)"),), net(64, 1, 20_000)),
    Experiment((Figure("net send 64 B batched", "pps", aim="> 537,000 (1.25 x)"),), net(64, 128, 400_000)),
    Experiment((Figure("vsock guest to host", "MiB/s"),), vsock.up(1024)),
    Experiment((Figure("vsock host to guest", "MiB/s"),), vsock.down(1024)),
    Experiment((Figure("vsock: a pair of Unix sockets without it", "MiB/s"),), vsock.pair(1024)),
)

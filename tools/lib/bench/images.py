"""A directory as a disk: by ravelin, which an image's layers become one by as well, beside plain mkfs.erofs."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

import common

from . import host, report
from .experiments import Figure
from .process import MonitorFailed

EXAMPLE = os.path.join(common.ROOT, "target/x86_64-unknown-linux-gnu/release/examples/convert")
EPILOG = """\
The two take turns, over the same directory, into the same one ($TMPDIR). MB are those of mkfs.erofs's disk. The first round
is not counted: what is read from a disk for the first time is another measurement. mkfs.erofs is Debian's erofs-utils.

  tools/bench images --path ~/rootfs --runs 10
"""


def spent(words):
    """Runs a command; its seconds on the clock, and those of a processor's."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise MonitorFailed(f"{words[0]} failed: {done.stderr.strip()[-500:]}")
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(path, runs, folder):
    """The rates of both, in MB of disk: each second, and each second of a processor."""
    disk = os.path.join(folder, "disk")
    ways = {"ravelin": [EXAMPLE, path], "mkfs.erofs": ["mkfs.erofs", "--quiet", disk, path]}
    clock, processor = {name: [] for name in ways}, {name: [] for name in ways}
    for run in range(runs + 1):
        print(f"run {run} of {runs}", file=sys.stderr)
        for name, words in ways.items():
            taken = spent(words)
            if run:
                clock[name].append(taken[0])
                processor[name].append(taken[1])
        megabytes = os.path.getsize(disk) / 1e6
        os.unlink(disk)

    def rates(many):
        return {name: [megabytes / max(one, 1e-9) for one in values] for name, values in many.items()}

    return {Figure("a directory as a disk", "MB/s"): rates(clock),
            Figure("a directory as a disk, for each second of a processor", "MB/s"): rates(processor)}, megabytes


def main(words):
    """Measures and reports; the exit status."""
    parser = argparse.ArgumentParser(prog="tools/bench images", description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", default="/usr/share", metavar="DIR", help="the directory (default: /usr/share)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each (default: 5)")
    parser.add_argument("--json", action="store_true", help="print every value as JSON instead of the table")
    options = parser.parse_args(words)
    if not os.path.isdir(options.path):
        parser.error(f"--path {options.path} is no directory: name one whose files are to be on the disk")
    about = host.facts() | {"runs": options.runs, "directory": options.path}
    build = ["cargo", "build", "--release", "--quiet", "--package", "image", "--example", "convert"]
    try:
        subprocess.run(build, cwd=common.ROOT, check=True)
        with tempfile.TemporaryDirectory(prefix="ravelin-bench-") as folder:
            results, megabytes = measure(options.path, max(1, options.runs), folder)
    except (MonitorFailed, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}; tools/bench images --help says what it needs", file=sys.stderr)
        return 1
    about |= {"the disk, MB": f"{megabytes:.0f}", "load at the end": host.load()}
    names = [argparse.Namespace(name=name) for name in ("ravelin", "mkfs.erofs")]
    print(report.whole(results, names, about, options.json))
    return 0

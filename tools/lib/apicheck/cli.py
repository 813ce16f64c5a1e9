"""The command line of tools/api-check."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter

import common
from . import forward, sandbox

# Pinned: what a newer one generates and checks may differ, and a suite that fails on another day tests nothing.
SCHEMATHESIS = "4.32.5"
TARGET = "x86_64-unknown-linux-gnu"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# The first ends the process by contract when it fails, the second answers until the VM ends.
EXCLUDED = ("/snapshot/load", "/ravelin/events")
# What no request made at random is met by.
UNMET = {
    "getRavelinEvents": "left out",
    "putRavelinFds": "wants a descriptor beside the request",
    "putMmdsConfig": "wants the id of a card that is there",
    "putHotplugMemory": "wants sizes that are multiples of each other",
}
GROWTH_KIB = 8 << 10
LIMIT_S = 150

DESCRIPTION = """\
Runs `ravelin api` in a sandbox and asks it, with schemathesis, what its OpenAPI description allows and what it does
not: twice, before a guest's start, and with a guest of tools/payload that runs, where this machine has a KVM. No answer
may be a 5xx, or one whose status, media type, headers or body the description does not know; the process must not end,
and must not grow by more than 8 MiB.

The requests name files and taps at random: ravelin's root is a folder of its own, its network a namespace of its own,
and it is nobody outside of them. The same requests are made each time.
"""


def main(arguments):
    """Runs the checks; the exit status."""
    options = parse(arguments)
    common.packages("util-linux")
    python = os.path.join(common.cached("schemathesis", common.digest(SCHEMATHESIS), install), "bin", "python")
    description = os.path.join(common.ROOT, "resources", "openapi.json")
    given = Counter()
    with tempfile.TemporaryDirectory(prefix="rv-api-") as scratch:
        files = pieces(scratch)
        runs = [("before a start", files, ())]
        if os.access("/dev/kvm", os.R_OK | os.W_OK):
            runs.append(("with a guest that runs", *guest(scratch, files)))
        else:
            sys.stderr.write("api-check: no guest can run here, for /dev/kvm cannot be opened\n")
        for name, files, flags in runs:
            with common.step(f"schemathesis, {name}"), sandbox.monitor(options.binary, files, *flags) as monitor:
                given += check(python, description, monitor, options.examples)
    conclude(description, given)
    return 0


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tools/api-check", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=20, metavar="N",
                        help="the most requests made at random for a path and method, besides those that the "
                             "description itself suggests (default: 20)")
    parser.add_argument("--binary", metavar="PATH", default=os.environ.get("RAVELIN_BIN") or built(""),
                        help="ravelin's binary (default: the release build of this checkout)")
    options = parser.parse_args(arguments)
    if not os.access(options.binary, os.X_OK):
        raise common.Failure(f"{options.binary} is not there: run cargo build --release, or name another with --binary")
    return options


def built(folder):
    """Where a release build of a workspace puts its binary."""
    name = os.path.basename(folder) or "ravelin"
    return os.path.join(common.ROOT, folder, "target", TARGET, "release", name)


def install(path):
    """Makes a virtual environment with schemathesis."""
    common.packages("python3-venv")
    with common.step(f"installing schemathesis {SCHEMATHESIS}"):
        common.run([sys.executable, "-m", "venv", path], "making a virtual environment")
        # By the interpreter: the scripts of an environment know its first place only, and it is moved.
        pip = [os.path.join(path, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        common.run([*pip, f"schemathesis=={SCHEMATHESIS}"], "installing schemathesis")


def pieces(scratch):
    """The files that requests name: a disk, and a kernel that is none."""
    disk, zeros = os.path.join(scratch, "disk.img"), os.path.join(scratch, "zeros")
    for path, size in ((disk, 1 << 20), (zeros, 4096)):
        with open(path, "wb") as file:
            file.truncate(size)
    return {"disk.img": disk, "zeros": zeros}


def guest(scratch, files):
    """The files and flags of a guest that runs and does nothing."""
    common.run(["cargo", "build", "--release", "--quiet"], "building tools/payload",
               cwd=os.path.join(common.ROOT, "tools", "payload"))
    config = os.path.join(scratch, "vm.json")
    description = {
        "boot-source": {"kernel_image_path": "/payload", "boot_args": "payload=idle"},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
        "drives": [{"drive_id": "disk", "path_on_host": "/disk.img", "is_root_device": False}],
        "network-interfaces": [{"iface_id": "net", "host_dev_name": "tap1"}],
    }
    with open(config, "w", encoding="utf-8") as file:
        json.dump(description, file)
    return {**files, "payload": built("tools/payload"), "vm.json": config}, ("--config", "/vm.json")


def check(python, description, monitor, examples):
    """Asks everything; how often each (operation, status) was answered. What was wrong is a failure."""
    before = monitor.resident()
    with forward.to(monitor.socket) as port, tempfile.TemporaryDirectory(prefix="rv-api-") as scratch:
        command = [
            python, "-m", "schemathesis.cli", "run", description, "--url", f"http://127.0.0.1:{port}",
            "--checks", ",".join(CHECKS), "--max-examples", str(examples), "--phases", "examples,coverage,fuzzing",
            "--generation-deterministic", "--request-timeout", "10",
            "--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure", "--no-color",
        ]
        for path in EXCLUDED:
            command += ["--exclude-path", path]
        answers = os.path.join(scratch, "answers")
        environment = {
            "PATH": os.environ["PATH"], "HOME": scratch, "API_CHECK_ANSWERS": answers,
            "PYTHONPATH": os.path.dirname(os.path.realpath(__file__)), "SCHEMATHESIS_HOOKS": "hooks",
        }
        try:
            done = subprocess.run(command, cwd=scratch, env=environment, stdin=subprocess.DEVNULL, timeout=LIMIT_S,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        except subprocess.TimeoutExpired:
            monitor.check()
            raise common.Failure(f"the requests were not done within {LIMIT_S} s: try fewer --examples") from None
        with open(answers, encoding="utf-8") as file:
            given = Counter(tuple(json.loads(line)) for line in file)
    monitor.check()
    if done.returncode != 0:
        raise common.Failure(f"the socket does not keep to its description:\n{done.stdout.decode(errors='replace')}")
    grown = monitor.resident() - before
    if grown > GROWTH_KIB:
        raise common.Failure(f"ravelin has grown by {grown} KiB during the requests; {GROWTH_KIB} are allowed")
    return given



def conclude(description, given):
    """Says how many requests there were; a failure when some could be met and none was: nothing was tested then."""
    with open(description, encoding="utf-8") as file:
        paths = json.load(file)["paths"]
    operations = [one for path in paths.values() for name, one in path.items() if name != "parameters"]
    can = {one["operationId"] for one in operations if {"200", "204"} & one["responses"].keys()} - UNMET.keys()
    met = {name for (name, status), _ in given.items() if status < 300}
    if missed := sorted(can - met):
        raise common.Failure(f"of these operations no request was met: {', '.join(missed)}")
    sys.stderr.write(f"{given.total()} requests; each of {len(can)} operations was met at least once\n")

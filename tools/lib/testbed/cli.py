"""The command line of tools/testbed."""

import argparse
import os
import shlex
import sys
import time

from common import Failure, cache_dir

from . import client, command, host, shares
from .host import Testbed, Wish

HELP = f"""\
An emulated machine with a true /dev/kvm, for hosts whose KVM cannot boot Linux, or that have none.

QEMU emulates a processor with hardware virtualisation, Debian runs on it, and KVM inside boots real guests:
about ten times slower than hardware, and otherwise the same. The checkout, the cache and $CARGO_TARGET_DIR are
shared under their own paths, so a command runs there as it runs here, as root and in the same folder. The
environment's variables RAVELIN_*, NEXTEST*, RUST_*, CARGO_* and TERM* go along.

It installs what is missing, builds its images once (about a minute), comes up in about ten seconds, and ends by
itself after {host.IDLE_MINUTES} minutes without a command. Each checkout has its own; commands may run side by side.
"""

# Which of the tests that run side by side this is, from 0 (cargo-nextest).
SLOT = "NEXTEST_TEST_GLOBAL_SLOT"

EXAMPLES = """\
examples:
  tools/testbed run -- target/x86_64-unknown-linux-gnu/release/ravelin doctor
  tools/testbed run -t 60 -e RUST_LOG=debug -- sh -c 'ls -l /dev/kvm; uname -r'
  tools/testbed shell
  tools/testbed up --share /srv/images --memory 12288
  CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$PWD/tools/testbed run --" cargo test

exit status of run and shell: the command's; 128 and the signal's number where one ended it; 124 when -t ran out;
125 when the testbed failed; 126 and 127 when the command cannot be started or found; 2 for wrong usage.
"""


def parser():
    main = argparse.ArgumentParser(
        prog="tools/testbed", description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = "which testbed, where several are up [$RAVELIN_TESTBED, or one of this checkout's own]"
    main.add_argument("--name", default=os.environ.get("RAVELIN_TESTBED") or host.default_name(), help=which)
    # The same after the verb, where it may stand as well.
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=argparse.SUPPRESS, help=which)
    verbs = main.add_subparsers(dest="verb", required=True, metavar="VERB")
    machine = machine_flags(named)
    verbs.add_parser("up", parents=[machine], help="bring it up; nothing happens when it is")
    run = verbs.add_parser(
        "run",
        parents=[machine],
        usage="tools/testbed run [OPTIONS] [--] COMMAND ...",
        help="run a command in it; brings it up first",
    )
    run.add_argument("-C", dest="cwd", metavar="DIR", help="the working directory [this one]")
    run.add_argument(
        "-e", dest="env", action="append", default=[], metavar="NAME[=VALUE]", help="one more environment variable"
    )
    run.add_argument(
        "-t", dest="timeout", type=positive, metavar="SECONDS", help="end the command after this time"
    )
    run.add_argument(
        "--again",
        type=whole,
        default=0,
        metavar="N",
        help="run the command again, N times at most, when the testbed was lost while it ran; what it read is not read again",
    )
    run.add_argument("--again-log", metavar="FILE", help="add a line to this file for each time it is run again")
    run.add_argument(
        "--each-slot",
        action="store_true",
        help="one testbed for each of cargo-nextest's slots, so that tests meet nothing of each other [$NEXTEST_TEST_GLOBAL_SLOT]",
    )
    run.add_argument("--tty", action="store_true", help="give the command a terminal")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="the command and its words")
    verbs.add_parser("shell", parents=[machine], help="a shell in it, on this terminal; brings it up first")
    down = verbs.add_parser("down", parents=[named], help="end it, and those of further slots, at once")
    down.add_argument("--all", action="store_true", help="end every testbed of this user")
    down.add_argument("--unused", action="store_true", help="but not while a command runs in it")
    verbs.add_parser("status", parents=[named], help="whether it is up, and which others are; exit status 0 when it is")
    verbs.add_parser("log", parents=[named], help="what its console and QEMU have said, and those of the last one that was lost")
    return main


def machine_flags(named):
    flags = argparse.ArgumentParser(add_help=False, parents=[named])
    flags.add_argument("--share", action="append", default=[], metavar="DIR", help="share one more folder")
    flags.add_argument("--memory", type=whole, metavar="MIB", help="its memory [8192]; used as it is touched")
    flags.add_argument("--cpus", type=whole, metavar="N", help="its processors [1]; with more, the emulation loses a guest now and then")
    flags.add_argument("--idle", type=whole, metavar="MINUTES", help="ends after so long without a command [15]")
    modules = sorted(command.SECURITY_WORDS)
    flags.add_argument("--security", choices=modules, help="its security module [apparmor]; selinux starts permissive")
    return flags


def positive(text):
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def whole(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def main(words):
    arguments = parser().parse_args(words)
    return VERBS[arguments.verb](Testbed(arguments.name), arguments)


def wish(arguments):
    return Wish(arguments.share, arguments.memory, arguments.cpus, arguments.idle, arguments.security)


def up(testbed, arguments):
    with testbed.lease(wish(arguments)):
        sys.stderr.write(f"the testbed {testbed.name} is up; tools/testbed down ends it\n")
    return 0


def run(testbed, arguments):
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not words:
        sys.stderr.write("tools/testbed: no command was given; expected tools/testbed run -- COMMAND ...\n")
        return 2
    if arguments.each_slot:
        testbed = Testbed(host.slot_name(testbed.name, os.environ.get(SLOT, "")))
    for left in range(arguments.again, -1, -1):
        try:
            return execute(testbed, arguments, words, arguments.cwd, arguments.env, arguments.timeout, arguments.tty)
        except client.Lost as lost:
            if not left:
                raise
            note_again(arguments, words, lost)


def shell(testbed, arguments):
    if not sys.stdin.isatty():
        sys.stderr.write("tools/testbed: a shell needs a terminal; use tools/testbed run -- COMMAND ...\n")
        return 2
    return execute(testbed, arguments, ["/bin/bash"], None, [], None, True)


def execute(testbed, arguments, words, cwd, env, timeout, terminal):
    """Runs a command; where the machine was lost before it began, on a fresh one."""
    for last in (False, False, True):
        try:
            return attempt(testbed, arguments, words, cwd, env, timeout, terminal)
        except client.Unreachable as lost:
            if last:
                raise
            sys.stderr.write(f"testbed: {lost}: a fresh one is brought up\n")


def attempt(testbed, arguments, words, cwd, env, timeout, terminal):
    state = None
    try:
        here = os.path.realpath(cwd or os.getcwd())
        with testbed.lease(wish(arguments)) as state:
            if cwd is None and not shares.covered(here, state["shares"]):
                raise Failure(
                    f"the folder {here} is not shared with the testbed: run this in {shares.ROOT}, "
                    f"name another folder with -C, or share this one with --share {shlex.quote(here)}"
                )
            return client.run(state, words, here, env, timeout, terminal)
    except Failure as failure:
        failure.status = 125
        if isinstance(failure, client.Lost):
            testbed.drop(state)
        raise


def note_again(arguments, words, lost):
    """Says that a command is run again, and writes it down."""
    sys.stderr.write(f"testbed: {lost}; the command is run again\n")
    if arguments.again_log:
        with open(arguments.again_log, "a") as file:
            file.write(shlex.join(words) + "\n")


def down(testbed, arguments):
    for one in map(Testbed, host.names() if arguments.all else host.family(testbed.name)):
        if arguments.unused and one.in_use():
            sys.stderr.write(f"the testbed {one.name} is in use and stays up\n")
        elif not one.down() and one.name == testbed.name and not arguments.all:
            sys.stderr.write(f"the testbed {one.name} is not up\n")
    return 0


def status(testbed, _):
    for name in sorted({testbed.name, *host.names()}):
        one = Testbed(name)
        state = one.state()
        if state:
            print(f"{name}: up for {(time.time() - state['started']) / 60:.0f} min, {describe(one, state)}")
        elif name == testbed.name:
            print(f"{name}: down; tools/testbed up brings it up (cache: {cache_dir()})")
    return 0 if testbed.state() else 1


def describe(testbed, state):
    idle = (time.time() - os.path.getmtime(testbed.path("in-use"))) / 60
    use = "in use" if testbed.in_use() else f"idle for {idle:.0f} of {state['idle_minutes']} min"
    folders = shlex.join(state["shares"])
    return f"{use}; {state['cpus']} processors, {state['memory']} MiB, {state['security']}; shares {folders}"


def log(testbed, _):
    for one in map(Testbed, host.family(testbed.name)):
        sys.stdout.write(one.lost())
        sys.stdout.write(one.said())
    return 0


VERBS = {"up": up, "run": run, "shell": shell, "down": down, "status": status, "log": log}

"""The command line of tools/testbed."""

import argparse
import os
import shlex
import sys

from common import Failure, cache_dir

from . import client
from .host import IDLE_MINUTES, Testbed

HELP = f"""\
An emulated machine with a true /dev/kvm, for hosts whose KVM cannot boot Linux, or that have none.

QEMU emulates a processor with hardware virtualisation, Debian runs on it, and KVM inside boots real guests:
about ten times slower than hardware, and otherwise the same. The checkout, the cache and $CARGO_TARGET_DIR are
shared under their own paths, so a command runs there as it runs here.

  tools/testbed run -- target/x86_64-unknown-linux-gnu/release/ravelin doctor
  tools/testbed shell

It installs what is missing, comes up in about ten seconds when its images are built, and ends by itself after
{IDLE_MINUTES} minutes without a client.
"""

STATUS = """\
Exit status of run: the command's; 128 and the signal's number where one ended it; 124 when -t ran out; 125 when the
testbed failed.
"""


def parser():
    main = argparse.ArgumentParser(
        prog="tools/testbed", description=HELP, epilog=STATUS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    main.add_argument(
        "--name",
        default=os.environ.get("RAVELIN_TESTBED", "default"),
        help="which testbed, where several are up [$RAVELIN_TESTBED, or default]",
    )
    verbs = main.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="bring it up; nothing happens when it is")
    machine_flags(up)
    run = verbs.add_parser("run", help="run a command in it")
    machine_flags(run)
    run.add_argument("-C", dest="cwd", metavar="DIR", help="the working directory [this one, if it is shared]")
    run.add_argument("-e", dest="env", action="append", default=[], metavar="NAME=VALUE", help="environment")
    run.add_argument("-t", dest="timeout", type=float, metavar="SECONDS", help="end the command after this time")
    run.add_argument("--tty", action="store_true", help="give the command a terminal")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    shell = verbs.add_parser("shell", help="a shell in it, on this terminal")
    machine_flags(shell)
    verbs.add_parser("down", help="end it at once")
    verbs.add_parser("status", help="whether it is up; exit status 0 when it is")
    verbs.add_parser("log", help="what its console and QEMU have said")
    return main


def machine_flags(verb):
    verb.add_argument("--share", action="append", default=[], metavar="DIR", help="share one more folder")
    verb.add_argument("--memory", type=int, default=8192, metavar="MIB", help="its memory [8192; used as touched]")
    verb.add_argument("--cpus", type=int, default=2, metavar="N", help="its processors [2]")


def main(words):
    arguments = parser().parse_args(words)
    testbed = Testbed(arguments.name)
    return VERBS[arguments.verb](testbed, arguments)


def up(testbed, arguments):
    testbed.up(arguments.share, arguments.memory, arguments.cpus)
    sys.stderr.write("the testbed is up; tools/testbed down ends it\n")
    return 0


def run(testbed, arguments):
    command = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise Failure("no command was given: tools/testbed run -- COMMAND ...")
    return run_in(testbed, arguments, command, arguments.cwd, arguments.env, arguments.timeout, arguments.tty)


def shell(testbed, arguments):
    if not sys.stdin.isatty():
        raise Failure("a shell needs a terminal: use tools/testbed run -- COMMAND ...")
    return run_in(testbed, arguments, ["/bin/bash"], None, [], None, True)


def run_in(testbed, arguments, command, cwd, env, timeout, terminal):
    with testbed.in_use():
        state = testbed.up(arguments.share, arguments.memory, arguments.cpus)
        extra = dict(pair.split("=", 1) for pair in env if "=" in pair)
        return client.run(state, command, cwd or working_directory(state), extra, timeout, terminal)


def working_directory(state):
    here = os.path.realpath(os.getcwd())
    inside = any(here == share or here.startswith(share + "/") for share in state["shares"])
    return here if inside else "/"


def down(testbed, _):
    if not testbed.down():
        sys.stderr.write("the testbed is not up\n")
    return 0


def status(testbed, _):
    state = testbed.state()
    if not state:
        print(f"down; `tools/testbed up` brings it up (cache: {cache_dir()})")
        return 1
    print(f"up; supervisor {state['supervisor']}, shares {shlex.join(state['shares'])}")
    return 0


def log(testbed, _):
    sys.stdout.write(testbed.tail())
    return 0


VERBS = {"up": up, "run": run, "shell": shell, "down": down, "status": status, "log": log}

"""The command line of tools/syscalls."""

import argparse

import common
from calls import rules, trace

ABOUT = """\
Which of the system calls that ravelin's filters allow are made while a command runs: a rule that nothing
needs should not be there.

The kernel records each call of the threads that have put their filter on (tracefs); it takes root of the host.
Without a command the test suite runs: unit tests and black-box tests. With --tally several runs count as one, also
such as happen elsewhere:

  tools/syscalls --tally target/calls.json
  CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$PWD/tools/testbed run -- $PWD/tools/syscalls --tally target/calls.json --" \\
      cargo nextest run --profile guests --test guests

A rule that several kinds of threads have counts as one rule.
"""
SUITE = ["cargo", "nextest", "run", "--workspace", "--status-level", "fail", "--final-status-level", "fail"]


def main(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/syscalls",
        description=ABOUT,
        epilog="exit status: 0 if the command succeeded and each rule was used, else 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tally", metavar="FILE", help="read the rules and their counts there, if it is there, and keep them there")
    parser.add_argument("command", nargs="*", help="a command and its arguments, behind --")
    given = parser.parse_args(arguments)
    tally = rules.Tally(rules.kept(given.tally) or rules.load())
    status, lost = trace.watch(given.command or SUITE, tally.see)
    if given.tally:
        rules.keep(given.tally, tally)
    if given.tally and given.command:
        return status
    unused = tally.unused()
    print(f"{tally.size()} rules, {tally.calls()} calls by them, {lost} calls not recorded, {len(unused)} rules not used")
    for rule in unused:
        words = ", ".join(condition["words"] for condition in rule["conditions"])
        print(f"  {rule['call']}{f' ({words})' if words else ''}: {rule['why']}")
    return 0 if status == 0 and not unused else 1

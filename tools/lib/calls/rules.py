"""The rules of the filters, and whether a call is one that a rule allows."""

import fcntl
import json
import os
import subprocess
import tempfile

import common


def load():
    """The rules as the code has them: a role, a call's number and name, conditions and a reason each."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rules.json")
        command = ["cargo", "test", "--quiet", "--package", "vmm", "--lib", "a_program_reads_the_rules"]
        environment = {**os.environ, "RAVELIN_SYSCALL_RULES": path}
        done = subprocess.run(command, env=environment, cwd=common.ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise common.Failure(f"the rules cannot be had, since this fails: {' '.join(command)}\n{done.stderr}")
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def kept(path):
    """The rules and counts of runs before; nothing if there are none."""
    if not path or not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def keep(path, tally):
    """Adds the counts of a run to those of runs before and beside it."""
    with open(f"{path}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {key(rule): rule["count"] for rule in kept(path) or []}
        rules = [{**rule, "count": before.get(key(rule), 0) + new} for rule, new in zip(tally.rules, tally.counts)]
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(rules, file)
        os.replace(f"{path}.new", path)


def key(rule):
    """What tells a thread's rule from another."""
    return rule["role"], rule["call"], json.dumps(rule["conditions"]), rule["why"]


def allows(rule, number, arguments):
    """Whether a rule is about a call with these arguments. A process's own number is nobody else's here."""
    return rule["number"] == number and all(holds(condition, arguments) for condition in rule["conditions"])


def holds(condition, arguments):
    given = arguments[condition["argument"]] & ((1 << 8 * condition["bytes"]) - 1)
    match condition["test"]:
        case ["is", value]:
            return given == value
        case ["without", bits]:
            return given & bits == 0
        case ["masked", of, value]:
            return given & of == value
        case ["this process"]:
            return True
    raise common.Failure(f"{condition} is no condition that this tool knows: teach it")


def role(name):
    """What a thread is for, by its name; nothing for one that is none of a monitor's."""
    name = name.removeprefix("fc_")
    if name.startswith("vcpu"):
        return "vcpu"
    if name.startswith("io") and name[2:].isdigit():
        return "io"
    return {"api": "api", "ravelin": "vmm", "firecracker": "vmm"}.get(name)


class Tally:
    """What was seen of threads that have a filter on them."""

    SECCOMP, EXECVE, EXECVEAT, EXIT, EXIT_GROUP = 317, 59, 322, 60, 231

    def __init__(self, rules):
        self.by_call = {}
        for index, rule in enumerate(rules):
            self.by_call.setdefault((rule["role"], rule["number"]), []).append((index, rule))
        self.rules = rules
        self.counts = [0] * len(rules)
        self.confined = set()

    def see(self, name, thread, number, arguments):
        """A call begins."""
        if thread not in self.confined:
            if number == self.SECCOMP:
                self.confined.add(thread)
            return
        if number in (self.EXIT, self.EXIT_GROUP, self.EXECVE, self.EXECVEAT):
            self.confined.discard(thread)
        for index, rule in self.by_call.get((role(name), number), ()):
            if allows(rule, number, arguments):
                self.counts[index] += 1

    def by_rule(self):
        """Every rule once, whatever threads have it, with the calls by it."""
        found = {}
        for rule, count in zip(self.rules, self.counts):
            _, *words = key(rule)
            known = found.setdefault(tuple(words), [rule, 0])
            known[1] += count + rule.get("count", 0)
        return list(found.values())

    def size(self):
        """How many rules there are."""
        return len(self.by_rule())

    def calls(self):
        """How many calls were made by them."""
        return sum(count for _, count in self.by_rule())

    def unused(self):
        """The rules by which nothing was done."""
        return [rule for rule, count in self.by_rule() if count == 0]

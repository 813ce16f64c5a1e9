"""What is seen of calls, and which rule they are put down to."""

import os
import tempfile
import unittest

from calls import rules, trace

KICK = {
    "role": "vmm",
    "call": "tgkill",
    "number": 234,
    "conditions": [
        {"argument": 0, "bytes": 4, "test": ["this process"], "words": "to this process"},
        {"argument": 2, "bytes": 4, "test": ["is", 34], "words": "signal"},
    ],
    "why": "kick",
}
READ = {"role": "io", "call": "read", "number": 0, "conditions": [], "why": "an event"}


class Calls(unittest.TestCase):
    def test_a_line_of_the_kernels_is_taken_apart(self):
        line = b"           vcpu0-4242    [001] .....  123.456789: sys_enter: NR 16 (d, ae80, 0, 7f00, 0, 1)"
        self.assertEqual(trace.parse(line), ("vcpu0", 4242, 16, [0xD, 0xAE80, 0, 0x7F00, 0, 1]))
        self.assertIsNone(trace.parse(b"CPU:1 [LOST 12 EVENTS]"))

    def test_calls_count_from_the_filter_on(self):
        tally = rules.Tally([READ])
        tally.see("io0", 7, 0, [0] * 6)
        tally.see("io0", 7, rules.Tally.SECCOMP, [1, 0, 0, 0, 0, 0])
        tally.see("io0", 7, 0, [0] * 6)
        self.assertEqual(tally.counts, [1])

    def test_a_thread_that_has_ended_is_another_afterwards(self):
        tally = rules.Tally([READ])
        for number in (rules.Tally.SECCOMP, rules.Tally.EXIT, 0):
            tally.see("io0", 7, number, [0] * 6)
        self.assertEqual(tally.unused(), [READ])

    def test_arguments_of_four_bytes_are_compared_as_such(self):
        self.assertTrue(rules.allows(KICK, 234, [1, 2, 34 | 1 << 32, 0, 0, 0]))
        self.assertFalse(rules.allows(KICK, 234, [1, 2, 9, 0, 0, 0]))

    def test_bits_are_looked_for(self):
        without = {"argument": 1, "bytes": 8, "test": ["without", 4], "words": ""}
        masked = {"argument": 1, "bytes": 8, "test": ["masked", 6, 2], "words": ""}
        self.assertTrue(rules.holds(without, [0, 3]) and rules.holds(masked, [0, 3]))
        self.assertFalse(rules.holds(without, [0, 4]) or rules.holds(masked, [0, 4]))

    def test_counts_of_several_runs_add_up(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tally")
            for run in range(2):
                tally = rules.Tally(rules.kept(path) or [READ, KICK])
                tally.see("io0", 7, rules.Tally.SECCOMP, [0] * 6)
                tally.see("io0", 7, 0, [0] * 6)
                rules.keep(path, tally)
            self.assertEqual([rule["count"] for rule in rules.kept(path)], [2, 0])
            self.assertEqual(rules.Tally(rules.kept(path)).unused()[0]["why"], "kick")


if __name__ == "__main__":
    unittest.main()

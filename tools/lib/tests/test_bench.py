"""The parts of tools/bench that need no monitor."""

import json
import unittest
from types import SimpleNamespace

from bench import report, smaps
from bench.experiments import EXPERIMENTS, Figure
from bench.monitors import Firecracker, Guest, Ravelin

MIB = 1 << 20

SMAPS = """\
00400000-00500000 r-xp 00000000 fe:00 1 /usr/bin/monitor
Rss:                 800 kB
Pss:                 400 kB
Private_Dirty:         0 kB
VmFlags: rd ex mr
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Rss:                  64 kB
Pss:                  64 kB
Private_Dirty:        64 kB
7f0000100000-7f0000180000 r--p 00001000 fe:00 2 /tmp/my kernel
Rss:                 512 kB
Pss:                 512 kB
Private_Dirty:         0 kB
7f0000180000-7f0008000000 rw-p 00000000 00:00 0
Rss:                9000 kB
Pss:                9000 kB
Private_Dirty:      9000 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
Rss:                  20 kB
Pss:                  20 kB
Private_Dirty:        20 kB
"""


class Smaps(unittest.TestCase):
    def test_guest_memory_is_left_out_with_the_kernel_file_mapped_into_it(self):
        left = smaps.without_guest(smaps.parse(SMAPS), 128 * MIB)
        self.assertEqual([one.path for one in left], ["/usr/bin/monitor", "[stack]"])
        self.assertEqual(smaps.total(left), {"rss": 820, "pss": 420, "dirty": 20})

    def test_a_path_with_blanks_is_kept_whole(self):
        self.assertEqual(smaps.parse(SMAPS)[2].path, "/tmp/my kernel")


class Monitors(unittest.TestCase):
    guest = Guest("payload=reset", disk="/dev/shm/disk.img", engine="uring", tap="bench0")

    def test_ravelin_is_asked_by_flags(self):
        argv = Ravelin("/bin/ravelin").argv("/payload", self.guest, "/scratch")
        self.assertEqual(argv[-4:], ["--disk", "/dev/shm/disk.img,engine=uring", "--net", "tap=bench0"])

    def test_the_other_is_asked_by_firecrackers_names(self):
        config = Firecracker.config("/payload", self.guest)
        self.assertEqual(config["drives"][0]["io_engine"], "Async")
        self.assertEqual(config["network-interfaces"][0]["host_dev_name"], "bench0")
        self.assertEqual(config["machine-config"]["mem_size_mib"], 128)


class Report(unittest.TestCase):
    monitors = [SimpleNamespace(name="a"), SimpleNamespace(name="b")]
    figure = Figure("start", "ms", 1, "fast")
    results = {figure: {"a": [3.0, 1.0, 2.0], "b": [4.0, 4.0, 5.0]}}

    def test_a_row_has_each_monitors_spread_and_the_ratio_of_medians(self):
        row = report.rows(self.results, self.monitors)[1]
        self.assertEqual(row, ["start", "ms", "1.0 / 2.0 / 3.0", "4.0 / 4.0 / 5.0", "0.50", "fast"])

    def test_markdown_has_its_rule_under_the_header(self):
        lines = report.markdown(report.rows(self.results, self.monitors), {"load": "0.1"}).splitlines()
        self.assertEqual(lines[0], "- load: 0.1")
        self.assertTrue(lines[2].startswith("| figure |"))
        self.assertEqual(set(lines[3]), set("| -"))

    def test_json_holds_every_value(self):
        data = json.loads(report.as_json(self.results, {}))
        self.assertEqual(data["figures"][0]["values"]["a"], [3.0, 1.0, 2.0])

    def test_no_two_figures_share_a_name(self):
        names = [figure.name for experiment in EXPERIMENTS for figure in experiment.figures]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()

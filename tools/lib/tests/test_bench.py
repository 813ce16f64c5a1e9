"""The parts of tools/bench that need no monitor."""

import json
import os
import socket
import tempfile
import threading
import time
import unittest
from types import SimpleNamespace

from bench import api, images, pods, report, smaps
from bench.process import MonitorFailed
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


PODS = """\
10000000-10001000 r-xp 00000000 fe:00 1 /usr/bin/ravelin
Pss:                 100 kB
20000000-24000000 rw-p 00000000 00:00 0
Pss:                  10 kB
24000000-25000000 rw-p 00000000 fe:00 2 /kit/vmlinux
Pss:                   5 kB
25000000-3fc00000 rw-p 00000000 00:00 0
Pss:                   3 kB
3fc00000-40000000 rw-p 00000000 fe:00 3 /kit/agent.cpio
Pss:                   2 kB
40000000-40200000 rw-p 00000000 00:00 0
Pss:                   1 kB
"""


class Pods(unittest.TestCase):
    def test_a_guest_has_the_files_that_are_mapped_into_it(self):
        own, guest = pods.split(smaps.parse(PODS), 512 * MIB)
        self.assertEqual((smaps.total(own)["pss"], smaps.total(guest)["pss"]), (101, 20))

    def test_a_process_without_a_guest_has_all_for_itself(self):
        own, guest = pods.split(smaps.parse(PODS), 256 * MIB)
        self.assertEqual((smaps.total(own)["pss"], guest), (121, []))

    def test_the_parts_of_a_start_are_read_from_containerds_log(self):
        log = 'time="x" level=info msg="container a is made: disk (cached) 9 ms, jail 12 ms" id=a\n'
        self.assertEqual(pods.made(log, "a"), {"disk (cached)": 9.0, "jail": 12.0})
        self.assertEqual(pods.made(log, "b"), {})


class Monitors(unittest.TestCase):
    guest = Guest("payload=reset", disk="/dev/shm/disk.img", engine="uring", tap="bench0")

    def test_ravelin_is_asked_by_flags(self):
        argv = Ravelin("/bin/ravelin").argv("/payload", self.guest, "/scratch")
        self.assertEqual(argv[-4:], ["--disk", "/dev/shm/disk.img,engine=uring", "--net", "tap=bench0"])

    def test_only_who_is_to_be_jailed_is(self):
        for jail in (True, False):
            argv = Ravelin("/bin/ravelin", jail=jail).argv("/payload", self.guest, "/scratch")
            self.assertEqual("--no-jail" in argv, not jail)

    def test_the_other_is_asked_by_firecrackers_names(self):
        config = Firecracker.config("/payload", self.guest)
        self.assertEqual(config["drives"][0]["io_engine"], "Async")
        self.assertEqual(config["network-interfaces"][0]["host_dev_name"], "bench0")
        self.assertEqual(config["machine-config"]["mem_size_mib"], 128)


class Api(unittest.TestCase):
    """A client against a socket that says what it is told to."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "s")
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(self.server.close)
        self.server.bind(self.path)
        self.server.listen()
        self.asked = b""
        # Only the process's end would be asked about: there is none before the socket accepts.
        process = SimpleNamespace(started=time.perf_counter(), pid=os.getpid(), failed=RuntimeError)
        self.client = api.Client(process, self.path)

    def serve(self, *answers):
        """Gives `answers`, each after something was read."""

        def work():
            peer, _ = self.server.accept()
            with peer:
                for answer in answers:
                    self.asked += peer.recv(65536)
                    peer.sendall(answer)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.client.connect()
        self.addCleanup(self.client.socket.close)

    def test_an_answer_is_read_to_its_end(self):
        self.serve(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 204 \r\n\r\n")
        self.assertEqual(self.client.ask("GET", "/"), b"{}")
        self.assertEqual(self.client.ask("PUT", "/actions", {"action_type": "InstanceStart"}), b"")
        self.assertTrue(self.asked.endswith(b'\r\nContent-Length: 32\r\n\r\n{"action_type": "InstanceStart"}'), self.asked)

    def test_a_refusal_ends_the_experiment_with_what_was_said(self):
        self.serve(b'HTTP/1.1 400 \r\nContent-Length: 21\r\n\r\n{"fault_message":"x"}')
        with self.assertRaisesRegex(RuntimeError, "fault_message"):
            self.client.ask("GET", "/")

    def test_half_an_answer_is_not_a_whole_one(self):
        whole = b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n{}"
        for length in range(len(whole)):
            self.assertFalse(api._is_whole(whole[:length]), length)
        self.assertTrue(api._is_whole(whole))


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


class Images(unittest.TestCase):
    def test_a_command_that_fails_is_no_measurement(self):
        clock, processor = images.spent(["true"])
        self.assertGreaterEqual(clock, 0)
        self.assertGreaterEqual(processor, 0)
        with self.assertRaises(MonitorFailed):
            images.spent(["false"])

if __name__ == "__main__":
    unittest.main()

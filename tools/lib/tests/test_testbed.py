import argparse
import os
import select
import socket
import sys
import tempfile
import unittest
from unittest import mock

import common
from testbed import cli, client, frames, host, image, shares

# The supervisor runs alone and finds what it needs beside itself.
sys.path.append(os.path.dirname(host.__file__))
import supervisor


class Frames(unittest.TestCase):
    def test_frames_survive_any_cut_of_the_stream(self):
        stream = frames.pack(b"o", b"hello") + frames.pack(b"i") + frames.pack_status(3)
        for cut in range(len(stream) + 1):
            reader = frames.Reader()
            got = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
            self.assertEqual([kind for kind, _ in got], [b"o", b"i", b"x"])
            self.assertEqual(got[0][1], b"hello")

    def test_a_frame_that_is_too_large_is_refused(self):
        with self.assertRaises(ValueError):
            frames.Reader().feed(b"o\xff\xff\xff\xff")

    def test_a_signal_is_128_and_its_number(self):
        self.assertEqual(frames.unpack_status(frames.pack_status(-9)[5:]), 137)
        self.assertEqual(frames.unpack_status(frames.pack_status(3)[5:]), 3)

    def test_a_window_size_reads_back(self):
        self.assertEqual(frames.unpack_size(frames.pack_size(50, 132)[5:]), (50, 132))

    def test_a_credit_reads_back(self):
        self.assertEqual(frames.unpack_credit(frames.pack_credit(65537)[5:]), 65537)


class Shares(unittest.TestCase):
    def test_a_folder_below_a_shared_one_is_covered(self):
        self.assertTrue(shares.covered("/a/b", ["/a"]))
        self.assertFalse(shares.covered("/ab", ["/a"]))

    def test_the_checkout_the_cache_and_the_target_are_shared(self):
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "target")
            with mock.patch.dict(os.environ, {"CARGO_TARGET_DIR": target}):
                wanted = shares.wanted()
        for path in (common.ROOT, common.cache_dir(), target):
            self.assertTrue(shares.covered(path, wanted), path)

    def test_a_folder_inside_another_is_not_shared_twice(self):
        self.assertEqual(shares.merge(["/a/b/c", "/a/b", "/a/bc"]), ["/a/b", "/a/bc"])

    def test_a_link_is_shared_under_both_paths(self):
        with tempfile.TemporaryDirectory() as folder:
            real, link = (os.path.join(os.path.realpath(folder), name) for name in ("real", "link"))
            os.mkdir(real)
            os.symlink(real, link)
            self.assertEqual(sorted(shares.merge([link])), [link, real])

    def test_what_the_testbed_needs_itself_is_not_shared(self):
        for path in ("/", "/tmp", "/usr", "/a b", "/a,b"):
            with self.assertRaises(common.Failure):
                shares.merge([path])


class Wishes(unittest.TestCase):
    def up(self, **fields):
        wish = host.Wish()
        return {**wish.state({}), **fields}

    def test_a_machine_as_it_comes_up_by_default_lacks_nothing(self):
        self.assertEqual(host.Wish().lacking(self.up()), [])

    def test_an_unnamed_size_takes_any_machine(self):
        self.assertEqual(host.Wish().lacking(self.up(memory=512, cpus=8)), [])

    def test_a_named_size_is_asked_for(self):
        self.assertEqual(host.Wish(memory=4096).lacking(self.up(memory=512)), ["memory 4096"])

    def test_another_security_module_is_asked_for(self):
        self.assertEqual(host.Wish(security="selinux").lacking(self.up()), ["security selinux"])
        self.assertEqual(host.Wish().lacking(self.up(security="selinux")), [])

    def test_a_folder_that_is_not_shared_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn(os.path.realpath(folder), host.Wish([folder]).lacking(self.up()))

    def test_another_agent_is_not_taken(self):
        self.assertEqual(len(host.Wish().lacking(self.up(version="other"))), 1)

    def test_a_new_machine_keeps_what_the_one_before_had(self):
        with tempfile.TemporaryDirectory() as folder:
            before = self.up(memory=512, shares=[folder, "/gone"])
            after = host.Wish(cpus=4).state(before)
        self.assertEqual((after["memory"], after["cpus"]), (512, 4))
        self.assertIn(folder, after["shares"])
        self.assertNotIn("/gone", after["shares"])


class Locks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        patch = mock.patch.dict(os.environ, {"RAVELIN_CACHE": folder.name})
        patch.start()
        self.addCleanup(patch.stop)
        self.testbed = host.Testbed("one")

    def test_a_state_whose_supervisor_is_gone_is_none(self):
        with open(self.testbed.path("state.json"), "w") as file:
            file.write("{}")
        self.assertIsNone(self.testbed.state())
        with common.locked(self.testbed.path("alive"), "waiting"):
            self.assertEqual(self.testbed.state(), {})

    def test_a_lease_is_seen_as_use(self):
        with mock.patch.object(host.Testbed, "state", lambda _: host.Wish().state({})):
            self.assertFalse(self.testbed.in_use())
            with self.testbed.lease(host.Wish()):
                self.assertTrue(self.testbed.in_use())
        self.assertFalse(self.testbed.in_use())

    def test_a_machine_in_use_is_not_ended_for_another_wish(self):
        state = host.Wish().state({})
        with mock.patch.object(host.Testbed, "state", lambda _: state), self.testbed.lease(host.Wish()):
            with self.assertRaises(common.Failure), self.testbed.lease(host.Wish(memory=512)):
                pass

    def test_each_slot_has_a_testbed_and_all_of_them_are_a_family(self):
        slots = [host.slot_name("one", slot) for slot in ("", "0", "1", "12")]
        self.assertEqual(slots, ["one", "one", "one-1", "one-12"])
        for name in ("one-1", "one-12", "one-more", "two"):
            host.Testbed(name)
        self.assertEqual(host.family("one"), ["one", "one-1", "one-12"])

    def test_only_its_user_reads_a_testbeds_folder(self):
        self.testbed.clear()
        self.testbed.write_token("secret")
        self.assertEqual(os.stat(self.testbed.folder).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(self.testbed.path("token")).st_mode & 0o777, 0o600)

    def test_a_name_cannot_leave_the_cache(self):
        for name in ("", "..", "a/b", "a b"):
            with self.assertRaises(common.Failure):
                host.Testbed(name)


class Losses(unittest.TestCase):
    """What happens when the machine goes away; the machine is a state, and no emulation runs."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        patch = mock.patch.dict(os.environ, {"RAVELIN_CACHE": folder.name})
        patch.start()
        self.addCleanup(patch.stop)
        self.testbed = host.Testbed("one")
        self.tokens = iter("abcdefgh")
        self.up = None
        self.bad_starts = 0
        self.place(host.Testbed, "state", lambda _: self.up)
        self.place(host.Testbed, "start", self.start)
        self.place(host.Testbed, "down", self.down)
        self.place(image, "images", lambda: None)

    def place(self, owner, name, value):
        patch = mock.patch.object(owner, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def start(self, _, state):
        if self.bad_starts:
            self.bad_starts -= 1
            raise common.Failure("it did not come up")
        self.testbed.clear()
        self.up = {**state, "token": next(self.tokens)}

    def down(self, *_):
        self.up = None

    def run_through(self, outcomes, *flags):
        """Runs a command whose tries end as said: a status, or a failure. The status, and the machines it ran on."""
        machines, outcomes = [], iter(outcomes)

        def run(state, *_):
            machines.append(state["token"])
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        self.place(client, "run", run)
        self.place(client, "ping", lambda _: False)
        with mock.patch("sys.stderr"):
            return cli.main(["--name", "one", "run", *flags, "--", "ls", "a b"]), "".join(machines)

    def test_a_machine_that_does_not_answer_is_replaced_before_the_command_begins(self):
        self.assertEqual(self.run_through([client.Unreachable("gone"), 0]), (0, "ab"))

    def test_a_machine_that_does_not_come_up_is_started_once_more(self):
        self.bad_starts = 1
        self.assertEqual(self.run_through([0]), (0, "a"))
        self.up, self.bad_starts = None, 2
        with self.assertRaises(common.Failure):
            self.run_through([0])

    def test_a_testbed_that_never_answers_is_a_failure_in_the_end(self):
        with self.assertRaises(client.Unreachable) as failure:
            self.run_through([client.Unreachable("gone")] * 3)
        self.assertEqual(failure.exception.status, 125)

    def test_a_command_that_has_begun_is_not_run_again_unasked(self):
        with self.assertRaises(client.Lost):
            self.run_through([client.Lost("gone"), 0])

    def test_a_command_is_run_again_on_a_fresh_machine_and_written_down(self):
        log = os.path.join(self.testbed.folder, "again")
        self.assertEqual(self.run_through([client.Lost("gone"), 0], "--again", "1", "--again-log", log), (0, "ab"))
        with open(log) as file:
            self.assertEqual(file.read(), "ls 'a b'\n")

    def test_a_command_is_run_again_only_so_often(self):
        with self.assertRaises(client.Lost):
            self.run_through([client.Lost("gone")] * 3, "--again", "2")
        self.assertEqual(next(self.tokens), "d")

    def test_a_command_that_fails_is_not_run_again(self):
        self.assertEqual(self.run_through([101, 0], "--again", "3"), (101, "a"))

    def test_a_machine_that_answers_is_not_ended(self):
        self.start(None, {})
        self.place(client, "ping", lambda _: True)
        self.testbed.drop(self.up)
        self.assertEqual(self.up["token"], "a")

    def test_the_machine_after_the_lost_one_is_left_alone(self):
        self.start(None, {})
        self.place(client, "ping", lambda _: False)
        self.testbed.drop({"token": "before"})
        self.assertEqual(self.up["token"], "a")

    def test_what_a_lost_machine_said_is_kept_for_the_log(self):
        self.start(None, {})
        with open(self.testbed.path("console.log"), "w") as file:
            file.write("BUG: page fault")
        self.place(client, "ping", lambda _: False)
        self.testbed.drop(self.up)
        self.start(None, {})
        self.assertIn("did not answer", self.testbed.lost())
        self.assertIn("BUG: page fault", self.testbed.lost())
        self.assertFalse(os.path.exists(self.testbed.path("console.log")))


class Pulse(unittest.TestCase):
    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.now = 100.0
        patch = mock.patch.object(supervisor.time, "monotonic", lambda: self.now)
        patch.start()
        self.addCleanup(patch.stop)
        self.pulse = supervisor.Pulse(self.listener.getsockname()[1])

    def after(self, seconds):
        self.now += seconds
        return self.pulse.silent()

    def test_a_machine_that_closes_the_question_has_answered(self):
        self.assertEqual(self.after(10), 10)
        connection = self.listener.accept()[0]
        self.assertEqual(connection.recv(100), frames.pack(b"r", b"{}"))
        connection.close()
        select.select([self.pulse.question], [], [], 10)
        self.assertEqual(self.after(1), 0)

    def test_a_machine_that_only_listens_is_silent(self):
        for seconds in range(1, 131):
            self.assertEqual(self.after(1), seconds)
        self.pulse.question.close()

    def test_a_port_where_nobody_listens_is_silent(self):
        self.listener.close()
        self.assertEqual(self.after(10), 10)
        self.assertEqual(self.after(120), 130)


class CommandLine(unittest.TestCase):
    def test_words_after_the_dashes_belong_to_the_command(self):
        arguments = cli.parser().parse_args(["run", "-t", "5", "--", "ls", "--help"])
        self.assertEqual(arguments.timeout, 5)
        self.assertEqual(arguments.command, ["--", "ls", "--help"])

    def test_words_of_a_command_without_dashes_are_its_own_too(self):
        arguments = cli.parser().parse_args(["run", "ls", "-t", "5"])
        self.assertEqual((arguments.command, arguments.timeout), (["ls", "-t", "5"], None))

    def test_the_name_stands_before_or_after_the_verb(self):
        for words in (["--name", "x", "run", "ls"], ["run", "--name", "x", "ls"]):
            self.assertEqual(cli.parser().parse_args(words).name, "x")
        with mock.patch.dict(os.environ, {"RAVELIN_TESTBED": "mine"}):
            self.assertEqual(cli.parser().parse_args(["down"]).name, "mine")

    def test_a_command_of_a_slot_runs_in_that_slots_testbed(self):
        used = []
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.dict(os.environ, {"RAVELIN_CACHE": folder, "NEXTEST_TEST_GLOBAL_SLOT": "1"}),
            mock.patch.object(cli, "execute", lambda testbed, *_: used.append(testbed.name)),
        ):
            for words in (["--each-slot", "ls"], ["ls"]):
                cli.main(["--name", "x", "run", *words])
        self.assertEqual(used, ["x-1", "x"])

    def test_sizes_and_times_are_positive(self):
        for check, text in ((cli.whole, "0"), (cli.whole, "1.5"), (cli.positive, "-1"), (cli.positive, "nan")):
            with self.assertRaises((ValueError, argparse.ArgumentTypeError)):
                check(text)

    def test_the_environment_that_goes_along_is_ours(self):
        here = {"RAVELIN_X": "1", "HOME": "/home/me", "RUST_LOG": "debug"}
        with mock.patch.dict(os.environ, here):
            passed = client.environment(["HOME", "A=b=c", "EMPTY="])
        self.assertEqual((passed["RAVELIN_X"], passed["RUST_LOG"]), ("1", "debug"))
        self.assertEqual((passed["HOME"], passed["A"], passed["EMPTY"]), ("/home/me", "b=c", ""))
        self.assertNotIn("PATH", passed)


class Images(unittest.TestCase):
    def test_what_runs_inside_is_there(self):
        for file in image.machine_files():
            self.assertTrue(os.path.isfile(file), file)


if __name__ == "__main__":
    unittest.main()

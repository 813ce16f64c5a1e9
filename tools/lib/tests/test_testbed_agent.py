"""The agent and the client against each other, on this machine: processes and a socket, no emulation."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
import unittest

import common

LIB = os.path.join(common.ROOT, "tools/lib")
AGENT = f"""
import socket, sys
sys.path[:0] = ["{LIB}/testbed/machine", "{LIB}/testbed"]
import agent
agent.accept(socket.socket(fileno=int(sys.argv[1])), "secret")
"""
CLIENT = f"""
import json, sys
sys.path.insert(0, "{LIB}")
from testbed import client
state, argv, options = map(json.loads, sys.argv[1:])
sys.exit(client.run(state, argv, "/", [], **options))
"""
LIMIT_SECONDS = 60


class Agent(unittest.TestCase):
    def setUp(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.state = {"port": listener.getsockname()[1], "token": "secret"}
        fd = listener.fileno()
        agent = subprocess.Popen([sys.executable, "-c", AGENT, str(fd)], pass_fds=[fd])
        listener.close()
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)

    def words(self, argv, **options):
        return [sys.executable, "-c", CLIENT, json.dumps(self.state), json.dumps(argv), json.dumps(options)]

    def run_in(self, *argv, data=b"", **options):
        return subprocess.run(self.words(argv, **options), input=data, capture_output=True, timeout=LIMIT_SECONDS)

    def start(self, *argv, **options):
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.words(argv, **options), stdin=pipe, stdout=pipe, stderr=pipe)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_output_and_status_come_back_apart(self):
        result = self.run_in("sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (7, b"out\n", b"err\n"))

    def test_a_signal_that_ends_the_command_is_its_status(self):
        self.assertEqual(self.run_in("sh", "-c", "kill -9 $$").returncode, 137)

    def test_a_command_that_is_not_there_is_127(self):
        result = self.run_in("/no/such/command")
        self.assertEqual(result.returncode, 127)
        self.assertIn(b"/no/such/command", result.stderr)

    def test_large_input_comes_back_as_it_was(self):
        data = os.urandom(5_000_000)
        result = self.run_in("cat", data=data)
        self.assertEqual(result.returncode, 0)
        self.assertTrue(result.stdout == data)

    def test_input_that_the_command_leaves_does_not_hold_it_up(self):
        self.assertEqual(self.run_in("true", data=bytes(5_000_000)).returncode, 0)

    def test_a_command_that_is_late_is_asked_to_end(self):
        result = self.run_in("sleep", "1000", timeout=0.2)
        self.assertEqual(result.returncode, 124)
        self.assertIn(b"0.2 s", result.stderr)

    def test_a_signal_to_the_client_reaches_the_command(self):
        client = self.start("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done")
        self.assertEqual(client.stdout.readline(), b"ready\n")
        client.send_signal(signal.SIGTERM)
        self.assertEqual(client.wait(LIMIT_SECONDS), 9)

    def test_a_killed_client_takes_its_command_along(self):
        client = self.start("sh", "-c", "setsid sleep 1000 & echo $!; echo $$; wait")
        pids = [int(client.stdout.readline()) for _ in range(2)]
        client.kill()
        self.assert_gone(pids)

    def test_what_a_command_leaves_behind_ends_with_it(self):
        result = self.run_in("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
        self.assert_gone([int(result.stdout)])

    def assert_gone(self, pids):
        deadline = time.monotonic() + LIMIT_SECONDS
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            self.assertLess(time.monotonic(), deadline, "a process is left")
            time.sleep(0.01)

    def test_a_reader_that_leaves_ends_the_command(self):
        client = self.start("yes")
        client.stdout.readline()
        client.stdout.close()
        self.assertEqual(client.wait(LIMIT_SECONDS), 128 + signal.SIGPIPE)
        client.stdout = None

    def test_another_secret_is_refused(self):
        self.state["token"] = "guess"
        result = self.run_in("echo", "hello")
        self.assertEqual(result.stdout, b"")
        self.assertIn(b"Lost", result.stderr)

    def test_a_terminal_is_one_and_has_a_size(self):
        result = self.run_in("sh", "-c", "test -t 0 && test -t 1 && stty size", tty=True)
        self.assertEqual((result.returncode, result.stdout.strip()), (0, b"24 80"))

    def test_the_terminal_here_is_raw_meanwhile_and_then_as_before(self):
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        words = self.words(["sh", "-c", "echo ready; sleep 1000"], tty=True)
        client = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        said = b""
        while b"ready" not in said:
            said += os.read(ours, 1000)
        self.assertFalse(termios.tcgetattr(theirs)[3] & termios.ICANON)
        client.send_signal(signal.SIGTERM)
        self.assertEqual(client.wait(LIMIT_SECONDS), 128 + signal.SIGTERM)
        self.assertEqual(termios.tcgetattr(theirs), before)

    def test_ctrl_c_on_the_terminal_reaches_the_command(self):
        ours, theirs = pty.openpty()
        words = self.words(["sh", "-c", "trap 'exit 5' INT; echo ready; while :; do sleep 0.01; done"], tty=True)
        client = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        said = b""
        while b"ready" not in said:
            said += os.read(ours, 1000)
        os.write(ours, b"\x03")
        self.assertEqual(client.wait(LIMIT_SECONDS), 5)


if __name__ == "__main__":
    unittest.main()

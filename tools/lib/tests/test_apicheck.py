import os
import socket
import tempfile
import threading
import unittest
from collections import Counter

import common
from apicheck import cli, forward


class Forward(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "s")
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(self.server.close)
        self.server.bind(self.path)
        self.server.listen()

    def echo(self):
        """Sends one message back and closes."""
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(peer.recv(100).upper())

    def test_what_is_said_to_the_port_is_said_to_the_socket(self):
        threading.Thread(target=self.echo, daemon=True).start()
        with forward.to(self.path) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"hello")
            self.assertEqual(client.recv(100), b"HELLO")
            # The end of one side is the end of the other.
            self.assertEqual(client.recv(100), b"")

    def test_a_socket_that_is_gone_ends_the_connection(self):
        self.server.close()
        with forward.to(self.path) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            self.assertEqual(client.recv(100), b"")


class Conclusion(unittest.TestCase):
    def description(self):
        return os.path.join(common.ROOT, "resources", "openapi.json")

    def test_a_run_that_met_nothing_is_a_failure(self):
        with self.assertRaisesRegex(common.Failure, "putDrives"):
            cli.conclude(self.description(), Counter({("putDrives", 400): 9}))

    def test_what_no_request_can_meet_is_an_operation(self):
        with open(self.description(), encoding="utf-8") as file:
            text = file.read()
        for name in cli.UNMET:
            self.assertIn(f'"operationId":"{name}"', text)
        for path in cli.EXCLUDED:
            self.assertIn(f'\n"{path}":', text)

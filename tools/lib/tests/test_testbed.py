import unittest

from testbed import cli, frames, host


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


class Shares(unittest.TestCase):
    def test_a_folder_below_a_shared_one_is_covered(self):
        self.assertTrue(host.covered("/a/b", ["/a"]))
        self.assertFalse(host.covered("/ab", ["/a"]))

    def test_the_checkout_is_shared(self):
        self.assertTrue(host.covered(host.ROOT, host.share_list([])))


class CommandLine(unittest.TestCase):
    def test_words_after_the_dashes_belong_to_the_command(self):
        arguments = cli.parser().parse_args(["run", "-t", "5", "--", "ls", "--help"])
        self.assertEqual(arguments.timeout, 5)
        self.assertEqual(arguments.command, ["--", "ls", "--help"])


if __name__ == "__main__":
    unittest.main()

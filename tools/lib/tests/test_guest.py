import contextlib
import io
import os
import struct
import tempfile
import unittest
from unittest import mock

import common
from guest import cli, cpio, stock, trimmed


class Archive(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = folder.name
        os.makedirs(os.path.join(self.tree, "bin"))
        with open(os.path.join(self.tree, "bin", "tool"), "w") as file:
            file.write("12345")
        os.symlink("tool", os.path.join(self.tree, "bin", "link"))

    def test_folders_come_before_what_is_in_them(self):
        names = [name for name, _, _ in entries(cpio.archive(self.tree))]
        self.assertEqual(names, ["bin", "bin/link", "bin/tool", "TRAILER!!!"])

    def test_a_file_keeps_its_bytes_and_a_link_its_target(self):
        found = {name: data for name, _, data in entries(cpio.archive(self.tree))}
        self.assertEqual((found["bin/tool"], found["bin/link"]), (b"12345", b"tool"))

    def test_a_later_time_changes_nothing(self):
        first = cpio.archive(self.tree)
        os.utime(os.path.join(self.tree, "bin", "tool"), (1, 1))
        self.assertEqual(cpio.archive(self.tree), first)


class Kernel(unittest.TestCase):
    def test_the_payload_starts_after_the_setup_sectors(self):
        image = bytearray(4096)
        image[0x1F1] = 3
        image[0x202:0x206] = b"HdrS"
        struct.pack_into("<II", image, 0x248, 16, 7)
        image[4 * 512 + 16 : 4 * 512 + 23] = b"payload"
        self.assertEqual(bytes(stock.payload(image)), b"payload")

    def test_a_file_that_is_no_bzimage_is_refused(self):
        with self.assertRaisesRegex(common.Failure, "HdrS"):
            stock.payload(bytes(4096))

    def test_every_line_of_our_configuration_is_a_setting_or_a_comment(self):
        with open(trimmed.CONFIG) as file:
            lines = [line.rstrip() for line in file if line.strip()]
        unknown = [line for line in lines if not trimmed.is_setting(line) and not line.startswith("# ")]
        self.assertEqual(unknown, [])

    def test_the_kernels_form_of_no_is_a_setting(self):
        self.assertTrue(trimmed.is_setting("# CONFIG_MODULES is not set"))
        self.assertFalse(trimmed.is_setting("# CONFIG_MODULES would be slow"))


class CommandLine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        patch = mock.patch.dict(os.environ, {"RAVELIN_CACHE": self.folder})
        patch.start()
        self.addCleanup(patch.stop)

    def refusal(self, *words):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as end:
            cli.main(list(words))
        self.assertEqual(end.exception.code, 2)
        return said.getvalue()

    def test_a_wrong_piece_or_file_is_named_with_what_there_is(self):
        self.assertIn("'kernels' is no piece: one of kernel", self.refusal("kernels"))
        self.assertIn("one of vmlinuz", self.refusal("path", "image"))
        self.assertIn("which piece?", self.refusal())

    def test_a_path_is_built_once_and_then_known(self):
        built = os.path.join(self.folder, "made")
        open(built, "w").close()
        build = mock.Mock(return_value={"root.ext4": built})
        said = io.StringIO()
        with mock.patch.dict(cli.PIECES, {"root": build}), contextlib.redirect_stdout(said):
            cli.main(["path", "root.ext4"])
            cli.main(["path", "root.ext4"])
        self.assertEqual(said.getvalue().split(), [built, built])
        build.assert_called_once_with()


def entries(archive):
    """The (name, mode, data) of every entry of a newc archive."""
    found, at = [], 0
    while not found or found[-1][0] != "TRAILER!!!":
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        at += -(-(110 + length) // 4) * 4
        found.append((name, mode, archive[at : at + size]))
        at += -(-size // 4) * 4
    return found

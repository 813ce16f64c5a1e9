import os
import tempfile
import threading
import time
import unittest
from unittest import mock

import common


class Cache(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        patch = mock.patch.dict(os.environ, {"RAVELIN_CACHE": folder.name})
        patch.start()
        self.addCleanup(patch.stop)

    def test_an_entry_is_made_once(self):
        made = []

        def build(path):
            made.append(path)
            open(path, "w").close()

        first = common.cached("thing", "k1", build)
        self.assertEqual(common.cached("thing", "k1", build), first)
        self.assertEqual(len(made), 1)

    def test_the_entries_used_last_are_kept(self):
        old = [common.cached("thing", f"k{number}", os.mkdir) for number in range(common.KEPT)]
        for age, path in enumerate(reversed(old)):
            os.utime(path, (1000 - age, 1000 - age))
        common.cached("thing", "k0", os.mkdir)
        new = common.cached("thing", "new", os.mkdir)
        self.assertTrue(os.path.isdir(new))
        self.assertTrue(os.path.exists(old[0]))
        self.assertFalse(os.path.exists(old[1]))
        self.assertTrue(os.path.exists(old[2]))

    def test_what_a_killed_build_left_goes_with_the_next(self):
        left = os.path.join(common.cache_dir("thing", ".new-left"), "made")
        os.mkdir(left)
        common.cached("thing", "k1", os.mkdir)
        self.assertFalse(os.path.exists(left))

    def test_two_builders_make_an_entry_once(self):
        made = []

        def build(path):
            time.sleep(0.05)
            made.append(path)
            os.mkdir(path)

        both = [threading.Thread(target=common.cached, args=("thing", "k1", build)) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        self.assertEqual(len(made), 1)

    def test_a_build_that_fails_leaves_nothing(self):
        with self.assertRaises(common.Failure):
            common.cached("thing", "k1", lambda path: common.run(["false"], "building"))
        self.assertEqual(os.listdir(common.cache_dir("thing")), [".lock"])


class Digest(unittest.TestCase):
    def test_parts_do_not_run_together(self):
        self.assertNotEqual(common.digest("ab", "c"), common.digest("a", "bc"))


if __name__ == "__main__":
    unittest.main()

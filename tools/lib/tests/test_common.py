import os
import tempfile
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

    def test_a_new_key_takes_the_place_of_the_old(self):
        old = common.cached("thing", "k1", lambda path: open(path, "w").close())
        new = common.cached("thing", "k2", lambda path: os.mkdir(path))
        self.assertTrue(os.path.isdir(new))
        self.assertFalse(os.path.exists(old))

    def test_a_build_that_fails_leaves_nothing(self):
        with self.assertRaises(common.Failure):
            common.cached("thing", "k1", lambda path: common.run(["false"], "building"))
        self.assertEqual(os.listdir(common.cache_dir("thing")), [])


class Digest(unittest.TestCase):
    def test_parts_do_not_run_together(self):
        self.assertNotEqual(common.digest("ab", "c"), common.digest("a", "bc"))


if __name__ == "__main__":
    unittest.main()

"""Which folders the testbed sees under their own paths."""

import os

from common import ROOT, Failure, cache_dir


def wanted(extra=()):
    """The folders to share: the checkout, the cache, $CARGO_TARGET_DIR, and those named."""
    folders = [ROOT, cache_dir()]
    target = os.environ.get("CARGO_TARGET_DIR")
    if target:
        os.makedirs(target, exist_ok=True)
        folders.append(target)
    for folder in extra:
        if not os.path.isdir(folder):
            raise Failure(f"`{folder}` was given to --share, and a folder was expected")
        folders.append(folder)
    return merge(folders)


def merge(folders):
    """Each folder once, under the path it is called by and the path it really has, without those inside others."""
    paths = {path for folder in folders for path in (os.path.abspath(folder), os.path.realpath(folder))}
    merged = []
    for path in sorted(paths, key=len):
        check(path)
        if not covered(path, merged):
            merged.append(path)
    return merged


def check(path):
    if any(character in path for character in " ,:=\n\"'\\"):
        raise Failure(f"the folder {path} cannot be shared: its name has a space, comma, colon, quote or equals sign")
    if path in RESERVED:
        raise Failure(f"the folder {path} cannot be shared: the testbed has its own; share a folder inside it")


# Folders that the testbed's own system needs as they are.
RESERVED = {"/", "/bin", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/testbed", "/tmp", "/usr", "/var"}


def covered(path, folders):
    """Whether a folder lies in one of those shared."""
    return any(path == folder or path.startswith(folder + "/") for folder in folders)

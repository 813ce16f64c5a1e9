"""An initramfs archive: cpio in the `newc` form (Documentation/driver-api/early-userspace/buffer-format.rst)."""

import os
import stat


def archive(tree):
    """The bytes of an archive of a folder. Owner 0, time 0: the same tree gives the same bytes."""
    parts, number = [], 0
    for path in walk(tree):
        number += 1
        parts.append(record(os.path.relpath(path, tree), os.lstat(path).st_mode, content(path), number))
    parts.append(record("TRAILER!!!", 0, b"", 0))
    return b"".join(parts)


def walk(tree):
    """Every path below a folder, parents first, in order of name."""
    for entry in sorted(os.scandir(tree), key=lambda entry: entry.name):
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)


def content(path):
    """A file's bytes, a link's target, nothing for a folder."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return os.readlink(path).encode()
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            return file.read()
    return b""


def record(name, mode, data, number):
    """One header of thirteen hexadecimal fields, the name and the data, each padded to four bytes."""
    name = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return pad(head) + pad(data)


def pad(data):
    """Data up to the next multiple of four bytes."""
    return data + bytes(-len(data) % 4)

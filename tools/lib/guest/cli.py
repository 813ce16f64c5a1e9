"""The command line of tools/guest."""

import argparse
import json
import os

import common
from guest import image, stock, trimmed

PIECES = {
    "kernel": stock.build,
    "initramfs": image.build_initramfs,
    "root": image.build_root,
    "trimmed": trimmed.build,
    "agent": image.build_agent,
    "container": image.build_container,
}
FILES = {
    "vmlinuz": "kernel",
    "vmlinux": "kernel",
    "initramfs": "initramfs",
    "initramfs.gz": "initramfs",
    "initramfs.xz": "initramfs",
    "initramfs.zst": "initramfs",
    "initramfs.lz4": "initramfs",
    "root.ext4": "root",
    "vmlinux-trimmed": "trimmed",
    "bzImage-trimmed": "trimmed",
    "agent.cpio": "agent",
    "container.erofs": "container",
}
DESCRIPTION = """\
Builds the guest kit: what test guests and demonstrations boot from. Everything comes from Debian
packages and from this checkout, lands in a cache, and is built again only when what it is made of
has changed. Prints the path of every file it was asked for.

pieces:
  kernel      vmlinuz, vmlinux       Debian's cloud kernel, as packaged and as the ELF inside it
  initramfs   initramfs[.gz .xz .zst .lz4]
                                     our init, the stock kernel's virtio modules and busybox
  root        root.ext4              an ext4 root with our init and busybox; copy it before a guest
                                     writes to it: cp --sparse=always
  trimmed     vmlinux-trimmed, bzImage-trimmed
                                     a small fast kernel without modules, from Debian's source and
                                     resources/guest-kernel.config: about 5 minutes on two cores
  agent       agent.cpio             the initramfs of a guest that runs containers: ravelin's agent, and the
                                     modules that the stock kernel needs for it
  container   container.erofs        the root of a container for tests: busybox on a read-only disk
  all         all six
"""
EPILOG = """\
examples:
  tools/guest kernel initramfs         what a first boot needs
  tools/guest path vmlinux-trimmed     one path, built if it is missing, for scripts
  tools/guest all --json               builds everything, prints {"NAME": "PATH", ...}
  tools/guest --json                   what is built already

a guest of the kit, by its kernel command line (ravelin run writes it):
  ravelin.command=WORDS                run this (percent-encoded words joined by %00), report its
                                       status, power off; without it: a shell, then power off
  ravelin.ip=ADDRESS/PREFIX[,GATEWAY]  configure eth0
  ravelin.size=ROWSxCOLUMNS            size of the console
  ravelin.term=NAME                    TERM on the console
  root=/dev/vda [rw]                   with the initramfs too: hands over to that root's init

The cache is $RAVELIN_CACHE, or ravelin in $XDG_CACHE_HOME or ~/.cache.
"""


def main(words):
    """Runs tools/guest with its arguments."""
    arguments = parse(words)
    what = arguments.piece
    if what[:1] == ["path"]:
        print(path_of(what[1]))
        return 0
    pieces = list(PIECES) if "all" in what else list(dict.fromkeys(what))
    build(pieces)
    wanted = [name for name, piece in FILES.items() if not pieces or piece in pieces]
    paths = {name: os.path.realpath(link(name)) for name in wanted if os.path.exists(link(name))}
    if arguments.json:
        print(json.dumps(paths, indent=2))
    else:
        for path in paths.values():
            print(path)
    return 0


def parse(words):
    """The arguments, checked; what is wrong is said in a sentence with status 2."""
    parser = argparse.ArgumentParser(
        prog="tools/guest",
        usage="tools/guest [--json] PIECE...\n       tools/guest path FILE",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("piece", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print a JSON object of names and paths")
    parser.add_argument("-h", "--help", action="help", help="show this help")
    arguments = parser.parse_args(words)
    what = arguments.piece
    if not what and not arguments.json:
        parser.error(f"which piece? one of {', '.join(PIECES)}, all, or path FILE")
    if what[:1] == ["path"]:
        if len(what) != 2 or what[1] not in FILES:
            parser.error(f"path takes one file: one of {', '.join(FILES)}")
        return arguments
    for piece in what:
        if piece not in PIECES and piece != "all":
            parser.error(f"'{piece}' is no piece: one of {', '.join(PIECES)}, all")
    return arguments


def path_of(name):
    """The path of one file, which is built if it has never been."""
    if not os.path.exists(link(name)):
        build([FILES[name]])
    return os.path.realpath(link(name))


def build(pieces):
    """Builds the pieces that are missing or out of date and points their names at them."""
    for piece in pieces:
        for name, path in PIECES[piece]().items():
            point(name, path)


def link(name):
    """The place where this checkout's file of this name is found: another checkout's kit may differ."""
    return os.path.join(common.cache_dir("guest", "kit", common.digest(common.ROOT)), name)


def point(name, path):
    """Makes the kit's name a link to a built file, at once."""
    fresh = link(f".{name}-{os.getpid()}")
    os.symlink(path, fresh)
    os.rename(fresh, link(name))

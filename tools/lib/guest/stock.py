"""Debian's cloud kernel: the bzImage as packaged, the ELF inside it, and the modules a guest needs."""

import os
import shutil
import struct
import subprocess
import tempfile

import common
from guest import debian

FORMAT = "2"
# virtio over mmio with its devices, and the ACPI power button as an input device. ext4 is built in.
MODULES = [
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio-rng",
    "vmw_vsock_virtio_transport",
    "button",
    "evdev",
]
# What a guest that runs containers needs beside these.
CONTAINER_MODULES = ["erofs", "overlay"]
LZ4_LEGACY = b"\x02\x21\x4c\x18"


def build():
    """The kernel's files by name."""
    folder = entry()
    return {name: os.path.join(folder, name) for name in ("vmlinuz", "vmlinux")}


def entry():
    """The cache folder with vmlinuz, vmlinux, and modules with their load order: tree/, and tree-agent/ with more."""
    common.packages("kmod", "lz4")

    def make(package, version):
        key = common.digest(FORMAT, package, version, *MODULES, *CONTAINER_MODULES)
        return common.cached("guest/stock", key, lambda folder: make_entry(package, version, folder))

    return debian.newest("linux-image-cloud-amd64", make)


def make_entry(package, version, folder):
    """Fills a cache folder from one kernel package."""
    release = package.removeprefix("linux-image-")
    with tempfile.TemporaryDirectory(prefix="ravelin-kernel-") as scratch:
        debian.unpack(package, version, scratch)
        os.mkdir(folder)
        vmlinuz = os.path.join(folder, "vmlinuz")
        shutil.copyfile(os.path.join(scratch, "boot", f"vmlinuz-{release}"), vmlinuz)
        extract_elf(vmlinuz, os.path.join(folder, "vmlinux"))
        shutil.copyfile(os.path.join(scratch, "boot", f"config-{release}"), os.path.join(folder, "config"))
        with common.step("working out module dependencies"):
            common.run(["depmod", "-b", scratch, release], "depmod")
        copy_modules(scratch, release, MODULES, os.path.join(folder, "tree"))
        copy_modules(scratch, release, MODULES + CONTAINER_MODULES, os.path.join(folder, "tree-agent"))


def payload(image):
    """The compressed kernel inside a bzImage (Documentation/x86/boot.rst: setup_sects, payload_offset)."""
    if image[0x202:0x206] != b"HdrS":
        raise common.Failure("the kernel package's vmlinuz is not a bzImage: no HdrS at 0x202")
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    return image[start : start + length]


def extract_elf(vmlinuz, vmlinux):
    """Decompresses the ELF of an LZ4 bzImage; its last four bytes are the ELF's size."""
    with open(vmlinuz, "rb") as file:
        packed = payload(file.read())
    if not packed.startswith(LZ4_LEGACY):
        raise common.Failure(f"{vmlinuz} is not compressed with LZ4: this tool knows nothing else")
    (size,) = struct.unpack("<I", packed[-4:])
    with common.step("extracting vmlinux"):
        result = subprocess.run(["lz4", "-dc"], input=packed[:-4], capture_output=True)
    if result.returncode != 0 or len(result.stdout) != size or result.stdout[:4] != b"\x7fELF":
        raise common.Failure(f"the ELF inside {vmlinuz} cannot be decompressed: {result.stderr.decode()}")
    with open(vmlinux, "wb") as file:
        file.write(result.stdout)


def copy_modules(root, release, modules, tree):
    """Copies modules and what they need into a tree, and writes /etc/modules-load in load order."""
    base = os.path.join("lib/modules", release)
    paths = load_order(root, release, modules)
    for path in paths:
        place = os.path.join(tree, os.path.relpath(path, root))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copyfile(path, place)
    os.makedirs(os.path.join(tree, "etc"))
    with open(os.path.join(tree, "etc/modules-load"), "w") as file:
        file.write(f"# /{base}, each module after those that it needs\n")
        file.writelines(f"/{os.path.relpath(path, root)}\n" for path in paths)


def load_order(root, release, modules):
    """Paths of modules and of what they need, each once and after its own needs."""
    order = {}
    for module in modules:
        command = ["modprobe", "-d", root, "-S", release, "--show-depends", module]
        for line in common.run(command, f"modprobe --show-depends {module}").splitlines():
            action, _, path = line.strip().partition(" ")
            if action == "insmod":
                order[os.path.realpath(path.strip())] = True
    return list(order)

"""What the testbed's machine is made of: a Debian kernel, an initramfs, and a Debian root on ext4."""

import os
import shutil
import subprocess

from common import cached, digest, download_package, packages, refresh_lists, run, step

HERE = os.path.dirname(os.path.realpath(__file__))
MACHINE = os.path.join(HERE, "machine")
RELEASE = "bookworm"
# What commands in the testbed may need. Everything is put in here: installing inside is slow.
INCLUDE = [
    "busybox-static", "ca-certificates", "curl", "e2fsprogs", "ethtool", "iperf3", "iproute2", "iputils-ping",
    "kmod", "netcat-openbsd", "procps", "python3", "socat", "strace", "util-linux",
]
ROOT_SIZE = "3G"
# The least that finds the root disk; everything else is on it.
BOOT_MODULES = ["virtio_pci", "virtio_blk"]


def images():
    """Builds what is missing; the paths of the kernel, the initramfs and the root."""
    packages("qemu-system-x86", "mmdebstrap", "busybox-static", "e2fsprogs", "kmod", "cpio")
    kernel = cached("testbed-kernel", digest("1", kernel_package()), build_kernel)
    files = [os.path.join(MACHINE, name) for name in ("init", "initramfs-init", "agent.py")]
    inputs = [RELEASE, *INCLUDE, *BOOT_MODULES, *files, os.path.join(HERE, "frames.py"), os.path.realpath(__file__)]
    key = digest(os.path.basename(kernel), *inputs)
    initramfs = cached("testbed-initramfs", key, lambda path: build_initramfs(path, kernel))
    root = cached("testbed-root", key, lambda path: build_root(path, kernel))
    return os.path.join(kernel, "vmlinuz"), initramfs, root


def kernel_package():
    """The package that today's linux-image-cloud-amd64 stands for."""
    refresh_lists()
    shown = run(["apt-cache", "depends", "linux-image-cloud-amd64"], "apt-cache depends")
    for line in shown.splitlines():
        if "Depends:" in line and "linux-image-" in line:
            return line.split()[-1]
    return "linux-image-cloud-amd64"


def build_kernel(path):
    """Unpacks the kernel and its modules, and writes which modules stand on which."""
    with step("fetching the testbed's kernel"):
        os.mkdir(path)
        deb = download_package(kernel_package(), path)
        run(["dpkg-deb", "-x", deb, path], "unpacking the kernel")
        os.unlink(deb)
        version = os.listdir(os.path.join(path, "lib/modules"))[0]
        os.rename(os.path.join(path, f"boot/vmlinuz-{version}"), os.path.join(path, "vmlinuz"))
        run(["depmod", "-b", path, version], "depmod")


def build_initramfs(path, kernel):
    """Packs busybox and the modules that the root disk needs."""
    tree = path + ".tree"
    for folder in ("bin", "dev", "modules", "root"):
        os.makedirs(os.path.join(tree, folder))
    shutil.copy("/bin/busybox", os.path.join(tree, "bin/busybox"))
    shutil.copy(os.path.join(MACHINE, "initramfs-init"), os.path.join(tree, "init"))
    os.chmod(os.path.join(tree, "init"), 0o755)
    order = []
    for module in BOOT_MODULES:
        for needed in module_closure(kernel, module):
            if os.path.basename(needed) not in order:
                shutil.copy(needed, os.path.join(tree, "modules"))
                order.append(os.path.basename(needed))
    with open(os.path.join(tree, "modules/order"), "w") as file:
        file.write("\n".join(order) + "\n")
    with open(path, "wb") as archive:
        names = subprocess.run(["find", "."], cwd=tree, capture_output=True, check=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names, stdout=archive, check=True)


def module_closure(kernel, module):
    """The files of a module and of all it stands on, in the order of loading."""
    version = os.listdir(os.path.join(kernel, "lib/modules"))[0]
    shown = run(["modprobe", "-d", kernel, "-S", version, "--show-depends", module], f"modprobe {module}")
    return [line.split()[1] for line in shown.splitlines() if line.startswith("insmod")]


def build_root(path, kernel):
    """Makes a Debian root with the kernel's modules and the agent in it."""
    tree = path + ".tree"
    with step("building the testbed's root filesystem (about a minute)"):
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(INCLUDE)}", RELEASE, tree]
        run(command, "mmdebstrap")
        shutil.copytree(os.path.join(kernel, "lib/modules"), os.path.join(tree, "usr/lib/modules"))
        os.mkdir(os.path.join(tree, "testbed"))
        for name in ("init", "agent.py"):
            shutil.copy(os.path.join(MACHINE, name), os.path.join(tree, "testbed"))
        shutil.copy(os.path.join(HERE, "frames.py"), os.path.join(tree, "testbed"))
        os.chmod(os.path.join(tree, "testbed/init"), 0o755)
        shutil.rmtree(os.path.join(tree, "var/cache/apt"), ignore_errors=True)
        shutil.rmtree(os.path.join(tree, "usr/share/doc"), ignore_errors=True)
        run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, path, ROOT_SIZE], "mke2fs")
        shutil.rmtree(tree)



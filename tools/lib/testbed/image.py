"""What the testbed's machine is made of: a Debian kernel, an initramfs, and a Debian root on ext4."""

import collections
import os
import shlex
import shutil
import tempfile

import common
from guest import cpio, debian

HERE = os.path.dirname(os.path.realpath(__file__))
MACHINE = os.path.join(HERE, "machine")
RELEASE = "bookworm"
# What commands in the testbed may need. Everything is put in here: installing inside is slow.
INCLUDE = [
    "apparmor", "busybox-static", "ca-certificates", "containerd", "curl", "e2fsprogs", "ethtool", "iperf3", "iproute2",
    "iputils-ping", "kmod", "netcat-openbsd", "nftables", "policycoreutils", "procps", "psmisc", "python3",
    "runc", "selinux-policy-default", "socat", "strace", "tcpdump", "time", "util-linux", "xz-utils", "zstd",
]  # fmt: skip
# ravelin's policy module for SELinux, which is compiled into the root's policy: inside that takes a minute.
POLICY = os.path.join(common.ROOT, "resources/selinux/ravelin.cil")
# The policy without it, for what is to be seen on a host that has none.
POLICY_WITHOUT = "/etc/selinux/policy-without-ravelin"
# Raised when the way in which an image is made changes.
FORMAT = "5"
# What is left out of the packages: nobody reads it in there.
LEFT_OUT = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/info/*"]
ROOT_SIZE = "3G"
# The least that finds the root disk; everything else is on it.
BOOT_MODULES = ["virtio_pci", "virtio_blk"]

Images = collections.namedtuple("Images", "kernel initramfs root")


def machine_files():
    """What runs inside: these travel in the initramfs, so that a change needs no new root."""
    return [os.path.join(MACHINE, name) for name in ("agent.py", "init", "initramfs-init")] + [
        os.path.join(HERE, "frames.py")
    ]


def images():
    """Builds what is missing; the paths."""
    common.packages("qemu-system-x86", "mmdebstrap", "busybox-static", "e2fsprogs", "kmod", "util-linux")
    if os.geteuid() != 0:
        # User namespaces with a user's own range of ids, for mmdebstrap and virtiofsd; and a root for tar and mke2fs.
        common.packages("uidmap", "fakeroot")

    def make(package, version):
        key = common.digest(FORMAT, package, version)
        return common.cached("testbed-kernel", key, lambda folder: make_kernel(package, version, folder))

    kernel = debian.newest("linux-image-cloud-amd64", make)
    key = common.digest(FORMAT, os.path.basename(kernel), *BOOT_MODULES, *machine_files())
    initramfs = common.cached("testbed-initramfs", key, lambda path: make_initramfs(path, kernel))
    key = common.digest(FORMAT, os.path.basename(kernel), RELEASE, *INCLUDE, ROOT_SIZE, POLICY)
    root = common.cached("testbed-root", key, lambda path: make_root(path, kernel))
    return Images(os.path.join(kernel, "vmlinuz"), initramfs, root)


def make_kernel(package, version, folder):
    """Unpacks the kernel and its modules, and writes which modules stand on which."""
    os.mkdir(folder)
    debian.unpack(package, version, folder)
    release = package.removeprefix("linux-image-")
    os.rename(os.path.join(folder, f"boot/vmlinuz-{release}"), os.path.join(folder, "vmlinuz"))
    common.run(["depmod", "-b", folder, release], "depmod")


def make_initramfs(path, kernel):
    """Packs busybox, the modules that the root disk needs, and what runs inside."""
    with tempfile.TemporaryDirectory(prefix="ravelin-testbed-") as tree:
        for name in ("bin", "dev", "modules", "root", "testbed"):
            os.mkdir(os.path.join(tree, name))
        copy_program("/bin/busybox", os.path.join(tree, "bin/busybox"))
        for file in machine_files():
            copy_program(file, os.path.join(tree, "testbed", os.path.basename(file)))
        os.rename(os.path.join(tree, "testbed/initramfs-init"), os.path.join(tree, "init"))
        order = dict.fromkeys(file for module in BOOT_MODULES for file in module_closure(kernel, module))
        for file in order:
            shutil.copy(file, os.path.join(tree, "modules"))
        with open(os.path.join(tree, "modules/order"), "w") as file:
            file.writelines(os.path.basename(name) + "\n" for name in order)
        with open(path, "wb") as file:
            file.write(cpio.archive(tree))


def module_closure(kernel, module):
    """The files of a module and of all it stands on, in the order of loading."""
    release = os.listdir(os.path.join(kernel, "lib/modules"))[0]
    shown = common.run(["modprobe", "-d", kernel, "-S", release, "--show-depends", module], f"modprobe {module}")
    return [line.split()[1] for line in shown.splitlines() if line.startswith("insmod")]


def copy_program(source, target):
    shutil.copyfile(source, target)
    os.chmod(target, 0o755)


def make_root(path, kernel):
    """Makes a Debian root with the kernel's modules in it."""
    archive, tree = path + ".tar", path + ".tree"
    with common.step("building the testbed's root filesystem (about a minute)") as note:
        note("packages")
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(INCLUDE)}"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        modules = os.path.join(kernel, "lib/modules")
        command += ["--customize-hook=mkdir $1/testbed", f"--customize-hook=copy-in {shlex.quote(modules)} /usr/lib"]
        command += [f"--customize-hook=cp $1/etc/selinux/default/policy/policy.* $1{POLICY_WITHOUT}"]
        command += [f"--customize-hook=copy-in {shlex.quote(POLICY)} /testbed"]
        command += ["--customize-hook=chroot $1 semodule --noreload -s default -i /testbed/ravelin.cil"]
        common.run([*command, RELEASE, archive], "mmdebstrap")
        note("image")
        as_root = [] if os.geteuid() == 0 else ["fakeroot", "--"]
        script = 'mkdir "$1" && tar -C "$1" -xf "$2" && mke2fs -q -t ext4 -O ^has_journal -d "$1" "$3" "$4"'
        words = ["sh", "-c", script, "sh", tree, archive, path, ROOT_SIZE]
        common.run([*as_root, *words], "mke2fs")

"""The trimmed kernel: Debian's linux-source-6.1 with resources/guest-kernel.config."""

import os
import shutil
import subprocess
import tempfile

import common
from guest import debian

FORMAT = "1"
SOURCE = "linux-source-6.1"
CONFIG = os.path.join(common.ROOT, "resources", "guest-kernel.config")
TOOLS = ["gcc", "make", "flex", "bison", "bc", "libelf-dev", "libssl-dev", "lz4", "xz-utils"]
# The same bytes from the same input, whoever builds.
IDENTITY = {
    "KBUILD_BUILD_USER": "ravelin",
    "KBUILD_BUILD_HOST": "ravelin",
    "KBUILD_BUILD_VERSION": "1",
    "KBUILD_BUILD_TIMESTAMP": "Tue Nov 14 22:13:20 UTC 2023",
    "LC_ALL": "C",
}


def build():
    """The kernel's files by name."""
    common.packages(*TOOLS)

    def make(package, version):
        key = common.digest(FORMAT, version, *settings())
        return common.cached("guest/trimmed", key, lambda folder: make_entry(package, version, folder))

    folder = debian.newest(SOURCE, make)
    return {name: os.path.join(folder, name) for name in ("vmlinux-trimmed", "bzImage-trimmed")}


def make_entry(package, version, folder):
    """Fills a cache folder by building the kernel in a scratch folder beside it: 2 GB while it lasts."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder), prefix="tree-") as scratch:
        debian.unpack(package, version, scratch)
        with common.step("extracting the kernel's source"):
            archive = os.path.join(scratch, "usr/src", f"{SOURCE}.tar.xz")
            common.run(["tar", "-C", scratch, "-xf", archive], "extracting the kernel's source")
        source = os.path.join(scratch, SOURCE)
        configure(source)
        compile_kernel(source)
        os.mkdir(folder)
        shutil.copyfile(os.path.join(source, "vmlinux"), os.path.join(folder, "vmlinux-trimmed"))
        image = os.path.join(source, "arch/x86/boot/bzImage")
        shutil.copyfile(image, os.path.join(folder, "bzImage-trimmed"))


def configure(source):
    """Writes .config, and fails when a line of ours did not survive."""
    with common.step("configuring the trimmed kernel"):
        make(source, "allnoconfig", f"KCONFIG_ALLCONFIG={CONFIG}")
    with open(os.path.join(source, ".config")) as file:
        kept = set(file.read().splitlines())
    lost = [line for line in settings() if line not in kept]
    if lost:
        raise common.Failure(f"{CONFIG}: these lines do not survive kernel configuration: {', '.join(lost)}")


def settings():
    """The lines of our configuration that say something to the kernel."""
    with open(CONFIG) as file:
        return [line for line in map(str.rstrip, file) if is_setting(line)]


def is_setting(line):
    """Whether a line of a configuration says something: a value, or the kernel's form of `no`."""
    return line.startswith("CONFIG_") or (line.startswith("# CONFIG_") and line.endswith(" is not set"))


def compile_kernel(source):
    """Builds the ELF and the bzImage; what is being compiled stands in the progress line."""
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    command = ["nice", "make", "-C", source, jobs, "vmlinux", "bzImage"]
    with common.step("building the trimmed kernel (5 to 15 minutes)") as note:
        process = subprocess.Popen(
            command,
            env=dict(os.environ, **IDENTITY),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        tail = []
        with process:
            for line in process.stdout:
                tail = [*tail[-19:], line]
                note(line.strip())
    if process.returncode != 0:
        raise common.Failure("the trimmed kernel does not build:\n" + "".join(tail))


def make(source, *words):
    """One quiet call of the kernel's make."""
    environment = dict(os.environ, **IDENTITY)
    common.run(["make", "-s", "-C", source, *words], f"make {words[0]}", env=environment)

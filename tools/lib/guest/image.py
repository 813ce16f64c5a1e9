"""User space of the kit: our init and busybox, as an initramfs and as an ext4 root."""

import functools
import json
import os
import shutil
import subprocess
import tempfile

import common
from guest import cpio, stock

FORMAT = "1"
BUSYBOX = "/bin/busybox"
FOLDERS = ["bin", "dev", "etc", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin", "var"]
# The first process is ours, not busybox's.
NOT_LINKED = {"init", "linuxrc", "busybox"}
ETC = {
    "passwd": "root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hostname": "ravelin\n",
    "hosts": "127.0.0.1 localhost ravelin\n::1 localhost\n",
    "profile": "export PS1='\\h:\\w\\$ '\n",
}
# Beside root and nobody, in containers.
USERS = "web:x:33:33::/var/www:/bin/sh\n"
PACKERS = {
    "initramfs.gz": ["gzip", "-9n"],
    "initramfs.xz": ["xz", "-6", "--check=crc32"],
    "initramfs.zst": ["zstd", "-12", "-q"],
    "initramfs.lz4": ["lz4", "-l", "-9", "-q"],
}
ROOT_MIB = 512


def build_initramfs():
    """The initramfs by name, plain and in every compression that a stock kernel reads."""
    common.packages("busybox-static", "gzip", "xz-utils", "zstd", "lz4")
    programs, kernel = build_programs(), stock.entry()
    key = common.digest(FORMAT, *programs, BUSYBOX, os.path.basename(kernel), str(ETC))
    folder = common.cached("guest/initramfs", key, lambda made: make_initramfs(programs, kernel, made))
    return {name: os.path.join(folder, name) for name in ("initramfs", *PACKERS)}


def build_root():
    """The ext4 root by name."""
    common.packages("busybox-static", "e2fsprogs")
    programs = build_programs()
    key = common.digest(FORMAT, *programs, BUSYBOX, str(ETC), str(ROOT_MIB))
    folder = common.cached("guest/root", key, lambda made: make_root(programs, made))
    return {"root.ext4": os.path.join(folder, "root.ext4")}


def build_agent():
    """The initramfs of a guest that runs containers: the agent, and the modules that a stock kernel needs for it."""
    (agent,), kernel = build_package("agent", "ravelin-agent"), stock.entry()
    key = common.digest(FORMAT, agent, os.path.basename(kernel))
    folder = common.cached("guest/agent", key, lambda made: make_agent(agent, kernel, made))
    return {"agent.cpio": os.path.join(folder, "agent.cpio")}


def build_container():
    """The root of a container for tests."""
    common.packages("busybox-static", "erofs-utils")
    key = common.digest(FORMAT, BUSYBOX, str(ETC), str(USERS))
    folder = common.cached("guest/container", key, make_container)
    return {"container.erofs": os.path.join(folder, "container.erofs")}


@functools.cache
def build_programs():
    """The paths of the guest's first process and of `vsock`."""
    return build_package("guest-init", "guest-init", "vsock")


def build_package(package, *programs):
    """The paths of a package's programs, built by cargo when they are out of date."""
    if not shutil.which("cargo"):
        raise common.Failure("cargo is missing: the guest's programs are built with it; install Rust with rustup")
    command = ["cargo", "build", "--release", "--package", package, "--message-format=json-render-diagnostics"]
    with common.step(f"building {package}"):
        result = subprocess.run(command, cwd=common.ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise common.Failure(f"{package} does not build:\n{result.stderr[-2000:]}")
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    built = {message["target"]["name"]: message["executable"] for message in messages if message.get("executable")}
    if not set(programs) <= built.keys():
        raise common.Failure(f"cargo built {package} and did not say where its programs are")
    return tuple(built[program] for program in programs)


def make_initramfs(programs, kernel, folder):
    """Fills a cache folder with the archive and its compressed forms."""
    os.mkdir(folder)
    plain = os.path.join(folder, "initramfs")
    with tempfile.TemporaryDirectory(prefix="ravelin-initramfs-") as tree:
        shutil.copytree(os.path.join(kernel, "tree"), tree, dirs_exist_ok=True)
        populate(tree, programs, "init")
        with open(plain, "wb") as file:
            file.write(cpio.archive(tree))
    for name, command in PACKERS.items():
        with common.step(f"compressing {name}"), open(plain, "rb") as data:
            packed = subprocess.run([*command, "-c"], stdin=data, capture_output=True)
        if packed.returncode != 0:
            raise common.Failure(f"{command[0]} cannot compress the initramfs: {packed.stderr.decode()}")
        with open(os.path.join(folder, name), "wb") as file:
            file.write(packed.stdout)


def make_agent(agent, kernel, folder):
    """Fills a cache folder with the agent's archive, as it is loaded: nothing is unpacked at each start."""
    os.mkdir(folder)
    with tempfile.TemporaryDirectory(prefix="ravelin-agent-") as tree:
        shutil.copytree(os.path.join(kernel, "tree-agent"), tree, dirs_exist_ok=True)
        for name in ("dev", "proc", "sys"):
            os.mkdir(os.path.join(tree, name))
        copy_program(agent, os.path.join(tree, "init"))
        with open(os.path.join(folder, "agent.cpio"), "wb") as file:
            file.write(cpio.archive(tree))


def make_container(folder):
    """Fills a cache folder with the image."""
    os.mkdir(folder)
    with tempfile.TemporaryDirectory(prefix="ravelin-container-") as tree:
        os.chmod(tree, 0o755)
        fill(tree, dict(ETC, passwd=ETC["passwd"] + USERS))
        image = os.path.join(folder, "container.erofs")
        with common.step("making container.erofs"):
            common.run(["mkfs.erofs", "--all-root", "-T", "0", image, tree], "mkfs.erofs")


def make_root(programs, folder):
    """Fills a cache folder with the sparse image: 4 MB on disk."""
    os.mkdir(folder)
    image = os.path.join(folder, "root.ext4")
    identity = "72617665-6c69-4e00-8000-000000000001"
    options = f"root_owner=0:0,hash_seed={identity},lazy_itable_init=0,assume_storage_prezeroed=1"
    with tempfile.TemporaryDirectory(prefix="ravelin-root-") as tree:
        os.chmod(tree, 0o755)
        populate(tree, programs, "sbin/init")
        command = ["mke2fs", "-q", "-t", "ext4", "-L", "ravelin", "-U", identity, "-E", options, "-d", tree]
        command += [image, f"{ROOT_MIB}M"]
        if os.geteuid() != 0:
            # In a user namespace of its own the builder's files are root's.
            command = ["unshare", "--map-root-user", *command]
        environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
        with common.step("making root.ext4"):
            common.run(command, "mke2fs", env=environment)


def populate(tree, programs, place):
    """Fills a folder with our init at a place, `vsock`, busybox and /etc."""
    fill(tree, ETC)
    init, vsock = programs
    copy_program(init, os.path.join(tree, place))
    copy_program(vsock, os.path.join(tree, "bin/vsock"))


def fill(tree, etc):
    """Fills a folder with busybox, a link for each of its applets, and /etc."""
    for folder in FOLDERS:
        os.makedirs(os.path.join(tree, folder), exist_ok=True)
    os.chmod(os.path.join(tree, "tmp"), 0o1777)
    os.chmod(os.path.join(tree, "root"), 0o700)
    copy_program(BUSYBOX, os.path.join(tree, "bin/busybox"))
    for applet in common.run([BUSYBOX, "--list-full"], "busybox --list-full").split():
        link = os.path.join(tree, applet)
        if os.path.basename(applet) not in NOT_LINKED and not os.path.lexists(link):
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink("/bin/busybox", link)
    for name, text in etc.items():
        with open(os.path.join(tree, "etc", name), "w") as file:
            file.write(text)


def copy_program(source, target):
    """Copies a file that is to be executed."""
    shutil.copyfile(source, target)
    os.chmod(target, 0o755)

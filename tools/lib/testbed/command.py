"""The command lines of the machine: QEMU, and one virtiofsd for each shared folder."""

import os

from common import ROOT, Failure

# Debian 12's, and where later ones have theirs.
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
# In front of a command: it ends when the supervisor does, even when that is killed.
MORTAL = ["setpriv", "--pdeathsig", "KILL", "--"]
# The same where the supervisor is not root: root of a user namespace. A new namespace forgets MORTAL, which follows.
AS_ROOT = ["unshare", "--user", "--map-root-user", "--map-auto", "--"]
# A kernel that has gone wrong ends at once, and QEMU with it: it does not limp on and fail every test that comes.
KERNEL_WORDS = (
    "console=ttyS0 mitigations=off quiet loglevel=4 panic=-1 oops=panic softlockup_panic=1 watchdog_thresh=30 tsc=reliable no_timer_check "
    "random.trust_cpu=on net.ifnames=0 8250.nr_uarts=1"
)
# The security module, by the word for it. SELinux starts permissive; what it denies, or would, is in the kernel's log.
SECURITY_WORDS = {"apparmor": "audit=0", "selinux": "audit=1 security=selinux selinux=1 enforcing=0"}


def socket_of(index):
    """The socket of a share, in the testbed's folder; a relative path, for a socket's path cannot be long."""
    return f"share{index}.sock"


def virtiofsd(folder):
    """Shares one folder; the supervisor adds the descriptor of the socket."""
    prefix = MORTAL if os.geteuid() == 0 else AS_ROOT + MORTAL
    for program in VIRTIOFSD:
        if os.path.exists(program):
            return [*prefix, program, "-o", f"source={folder}", "-o", "cache=auto"]
    raise Failure(f"virtiofsd is missing: it was expected at {' or '.join(VIRTIOFSD)}; it comes with QEMU 7.2")


def qemu(images, state, token_file):
    """Emulates the machine. TCG's processor has SVM with nested paging: the KVM inside is a true one."""
    memory = state["memory"]
    words = [KERNEL_WORDS, SECURITY_WORDS[state["security"]], f"testbed.token={token_file}", f"testbed.checkout={ROOT}"]
    words += [f"testbed.share=share{index}:{path}" for index, path in enumerate(state["shares"])]
    command = [
        *MORTAL, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-M", "pc,usb=off,vmport=off,smm=off", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max",
        "-smp", str(state["cpus"]), "-m", str(memory),
        "-object", f"memory-backend-memfd,id=memory,size={memory}M,share=on", "-numa", "node,memdev=memory",
        "-kernel", images.kernel, "-initrd", images.initramfs, "-append", " ".join(words),
        "-serial", "file:console.log",
        "-drive", f"file={images.root},format=raw,if=none,id=root,snapshot=on,cache=unsafe",
        "-device", "virtio-blk-pci,drive=root",
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{state['port']}-:7000",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
    ]  # fmt: skip
    for index in range(len(state["shares"])):
        command += ["-chardev", f"socket,id=share{index},path={socket_of(index)}"]
        command += ["-device", f"vhost-user-fs-pci,chardev=share{index},tag=share{index}"]
    return command

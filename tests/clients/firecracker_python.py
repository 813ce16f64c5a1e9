#!/usr/bin/env python3
"""`firecracker_python.py FIRECRACKER KERNEL ROOT FOLDER`: a VM's life by the package firecracker-python.

The package's own MicroVM makes a tap, starts the binary, describes the guest and runs it; the host's ping says whether
the guest lives. Three things that it wants whether they are used or not are not here, and none is a part of what it
says to Firecracker: a Docker daemon (for images of root file systems), the host's public address, which it asks a web
site for, and rules of the host's firewall for the way out, by a module that is not on PyPI. It needs a network of its
own with a default route by `eth0`, and ends with 0 when all was well.
"""

import os
import signal
import subprocess
import sys

import docker

binary, kernel, root, folder = sys.argv[1:]
docker.from_env = lambda: None

import firecracker.config  # noqa: E402: what it imports asks for Docker
import firecracker.microvm  # noqa: E402
import firecracker.network  # noqa: E402

firecracker.microvm.get_public_ip = lambda: "192.0.2.1"
for rule in "add_nat_rules", "create_masquerade", "delete_nat_rules", "delete_masquerade", "delete_all_port_forward":
    setattr(firecracker.network.NetworkManager, rule, lambda self, *names: None)

# Where it keeps its files and finds the binary: the first three defaults, which no argument changes.
defaults = list(firecracker.config.MicroVMConfig.__init__.__defaults__)
assert defaults[:3] == ["/var/lib/firecracker", "/usr/local/bin/firecracker", "/var/lib/firecracker/snapshots"]
defaults[:3] = [folder, binary, os.path.join(folder, "snapshots")]
firecracker.config.MicroVMConfig.__init__.__defaults__ = tuple(defaults)

GUEST = "172.16.0.2"
ATTEMPTS = 60


def pings(count):
    """How many of so many calls the guest answers."""
    command = ["ping", "-c", str(count), "-W", "1", GUEST]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    return int(output.split(" packets transmitted, ")[1].split(" ")[0])


def wait_for_answer():
    """Until the guest answers: longer than any boot takes, each call that is not answered takes a second."""
    if not any(pings(1) for _ in range(ATTEMPTS)):
        sys.exit("the guest never answered")


def same(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} where {expected!r} was expected")


vm = firecracker.microvm.MicroVM(
    name="guest", kernel_file=kernel, base_rootfs=root, vcpu=1, memory=256, ip_addr=GUEST,
    mmds_enabled=True, user_data="the user's own words")
name = vm._microvm_id
try:
    same("creation", vm.create(), f"VMM {name} created")
    wait_for_answer()
    config = vm.config()
    same("machine", (config["machine-config"]["vcpu_count"], config["machine-config"]["mem_size_mib"]), (1, 256))
    same("metadata", config["mmds-config"]["version"], "V2")
    same("interface", config["network-interfaces"][0]["host_dev_name"], f"tap_{name}")
    api = vm._vmm.get_api(name)
    same("state", api.describe.get().json()["state"], "Running")
    same("metadata", api.mmds.get().json()["latest"]["user-data"], "the user's own words")
    same("pause", vm.pause(), f"VMM {name} paused successfully")
    same("state", api.describe.get().json()["state"], "Paused")
    same("answers of a paused guest", pings(2), 0)
    same("resumption", vm.resume(), f"VMM {name} resumed successfully")
    wait_for_answer()
    same("list", [one["id"] for one in vm.list()], [name])
    # A refusal is told in the words that Firecracker has for it.
    try:
        api.boot.put(kernel_image_path=kernel)
        sys.exit("a boot source after the start was not refused")
    except firecracker.exceptions.APIError as error:
        same("refusal", "not supported after starting the microVM" in str(error), True)
    api.close()
finally:
    for log in "firecracker.log", f"logs/{name}.log":
        with open(os.path.join(folder, name, log), errors="replace") as file:
            print(file.read())
    # It never waits for the process it has started, and takes the dead one for one that lives.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(vm.delete())
same("processes", vm._process.get_pids(), [])
same("folder", os.path.exists(os.path.join(folder, name)), False)

"""How a monitor is asked to run a guest: ravelin's command line, and the one of Firecracker's kind."""

import json
import os
from dataclasses import dataclass

MEMORY_MIB = 128


@dataclass(frozen=True)
class Guest:
    """A payload guest: its command line and its devices."""

    cmdline: str
    disk: str | None = None
    engine: str = "sync"  # sync or uring
    tap: str | None = None
    vsock: str | None = None


class Ravelin:
    """`ravelin run` with flags."""

    def __init__(self, binary, name="ravelin", jail=False):
        self.binary, self.name = os.path.abspath(binary), name
        self.jail = [] if jail else ["--no-jail"]

    def argv(self, kernel, guest, _scratch):
        """The command line that runs `guest`."""
        argv = [self.binary, "run", "--quiet", *self.jail, "--kernel", kernel, "--mem", f"{MEMORY_MIB}M", "--cmdline", guest.cmdline]
        if guest.disk:
            argv += ["--disk", f"{guest.disk},engine={guest.engine}"]
        if guest.tap:
            argv += ["--net", f"tap={guest.tap}"]
        if guest.vsock:
            argv += ["--vsock", guest.vsock]
        return argv

    def api_argv(self, path):
        """The command line that serves a socket at `path`."""
        return [self.binary, "api", "--quiet", *self.jail, "--api-sock", path]


class Firecracker:
    """Any monitor that takes `--no-api --config-file FILE` with Firecracker's names in FILE."""

    def __init__(self, binary, name=None):
        self.binary = os.path.abspath(binary)
        self.name = name or os.path.basename(binary)

    def argv(self, kernel, guest, scratch):
        """The command line that runs `guest`; writes its configuration file into `scratch`."""
        path = os.path.join(scratch, "machine.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.config(kernel, guest), file)
        return [self.binary, "--no-api", "--config-file", path]

    def api_argv(self, path):
        """The command line that serves a socket at `path`."""
        return [self.binary, "--api-sock", path]

    @staticmethod
    def config(kernel, guest):
        """The guest in the words of Firecracker's configuration file."""
        config = {
            "boot-source": {"kernel_image_path": kernel, "boot_args": guest.cmdline},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": MEMORY_MIB},
            "drives": [],
            "network-interfaces": [],
        }
        if guest.disk:
            config["drives"].append({
                "drive_id": "disk0",
                "path_on_host": guest.disk,
                "is_root_device": False,
                "is_read_only": False,
                "io_engine": {"sync": "Sync", "uring": "Async"}[guest.engine],
            })
        if guest.tap:
            config["network-interfaces"].append({"iface_id": "net0", "host_dev_name": guest.tap})
        if guest.vsock:
            config["vsock"] = {"guest_cid": 3, "uds_path": guest.vsock}
        return config


class Floor:
    """The bare KVM program of tools/payload: no devices."""

    name = "bare KVM"

    def __init__(self, binary):
        self.binary = os.path.abspath(binary)

    def argv(self, kernel, guest, _scratch):
        """The command line that runs `guest`."""
        return [self.binary, kernel, "linux", guest.cmdline]

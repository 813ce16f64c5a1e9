"""Debian packages that are looked into, not installed."""

import os
import subprocess
import tempfile

import common


class NotDownloaded(common.Failure):
    """A package could not be downloaded."""


def resolve(name):
    """The (package, version) that this machine's package lists offer under a name.

    A metapackage such as linux-image-cloud-amd64 stands for the first package that it depends on.
    """
    fields = show(name)
    if not fields:
        with common.step("fetching the package lists"):
            common.apt("update")
        fields = show(name)
    if not fields:
        raise common.Failure(f"Debian's package lists have no {name}: is /etc/apt/sources.list one of Debian 12?")
    depends = fields.get("Depends", "")
    if name.startswith("linux-image-cloud-") and depends.startswith("linux-image-"):
        return resolve(depends.split()[0])
    return name, fields["Version"]


def show(name):
    """The fields of a package's newest entry in the lists; empty when there is none."""
    command = ["apt-cache", "show", "--no-all-versions", name]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    lines = [line.partition(": ") for line in text.split("\n\n")[0].splitlines() if line[:1].strip()]
    return {name: value for name, _, value in lines}


def unpack(name, version, folder):
    """Downloads a package and extracts its files into a folder."""
    with tempfile.TemporaryDirectory(prefix="ravelin-deb-") as scratch:
        with common.step(f"downloading {name} {version}"):
            try:
                package = common.download_package(f"{name}={version}", scratch)
            except common.Failure as failure:
                raise NotDownloaded(f"the package {name} {version} cannot be downloaded: {failure}") from failure
        with common.step(f"extracting {os.path.basename(package)}"):
            common.run(["dpkg-deb", "--extract", package, folder], f"extracting the package {name}")


def newest(name, make):
    """What `make(package, version)` gives for the newest version of a package.

    Lists that are out of date name a version that is gone from the mirrors: they are fetched once.
    """
    package, version = resolve(name)
    try:
        return make(package, version)
    except NotDownloaded as failure:
        if os.geteuid() != 0:
            raise common.Failure(f"{failure}\nIf it is gone from the mirror, run sudo apt-get update") from failure
        with common.step("fetching the package lists"):
            common.apt("update")
        if resolve(name) == (package, version):
            raise
        return make(*resolve(name))

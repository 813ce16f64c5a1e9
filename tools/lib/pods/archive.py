"""An OCI image archive of busybox and some files: what tests and demonstrations run in containers, without a registry."""

import hashlib
import io
import json
import os
import tarfile

BUSYBOX = "/bin/busybox"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
FOLDERS = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755, "tmp": 0o1777}
# Those of busybox's that are called by their names.
APPLETS = (
    "awk cat cp cut date dd df echo env false grep head hostname id kill ln ls md5sum mkdir mount nproc od ps pwd rm sed "
    "seq sh sha256sum sleep sort stty tail tee test touch tr true tty umount uname wc yes"
).split()


def layer(files):
    """A layer's bytes: folders, busybox with its names, accounts, and `files` as (path in the image, path here)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, mode in FOLDERS.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for path, text in ACCOUNTS.items():
            add(tar, path, text.encode(), 0o644)
        for path, source in [("bin/busybox", BUSYBOX), *files]:
            with open(source, "rb") as file:
                add(tar, path, file.read(), 0o755)
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return out.getvalue()


def add(tar, path, data, mode):
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def make(path, name, files=(), command=("/bin/sh",)):
    """Writes the archive of the image `name` to `path`."""
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    def document(value, kind):
        return blob(json.dumps(value, sort_keys=True).encode(), kind)

    contents = blob(layer(files), LAYER)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [contents["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": document(config, CONFIG),
        "layers": [contents],
    }
    entry = document(manifest, MANIFEST)
    entry["platform"] = {"architecture": "amd64", "os": "linux"}
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.split(":")[-1]}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with tarfile.open(path, "w") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        add(tar, "index.json", index, 0o644)
        for where, data in blobs.items():
            add(tar, where, data, 0o644)


def main(words):
    """`archive.py PATH NAME [PATH-IN-IMAGE=FILE ...]`"""
    path, name, *files = words
    pairs = [tuple(file.split("=", 1)) for file in files]
    make(path, name, [(inside.lstrip("/"), os.path.abspath(source)) for inside, source in pairs])
    return 0

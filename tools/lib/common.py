"""What every tool needs: Debian packages, a cache, and a line that says what is going on."""

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

# How many entries of one name the cache keeps: checkouts side by side need different ones.
KEPT = 4
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


class Failure(Exception):
    """Something a person has to know: one sentence."""


def cache_dir(*parts):
    """A folder below the cache, made if it is missing: $RAVELIN_CACHE, or ravelin in the user's cache."""
    base = os.environ.get("RAVELIN_CACHE")
    if not base:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        base = os.path.join(home, "ravelin")
    path = os.path.join(base, *parts)
    os.makedirs(path, exist_ok=True)
    return path


@contextlib.contextmanager
def step(title):
    """Says what is going on: a line with the elapsed seconds on a terminal, one line a step elsewhere.

    Gives a function that puts a detail into that line.
    """
    tty = sys.stderr.isatty()
    started, done, detail = time.monotonic(), threading.Event(), ""

    def note(text):
        nonlocal detail
        detail = text

    def elapsed():
        return f"{time.monotonic() - started:.0f} s"

    def show():
        while not done.wait(1):
            columns = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\033[K{f'{title} ... {elapsed()} {detail}'[:columns]}")
            sys.stderr.flush()

    ticker = threading.Thread(target=show, daemon=True)
    if tty:
        ticker.start()
    else:
        sys.stderr.write(f"{title} ...\n")
    try:
        yield note
    finally:
        done.set()
        if tty:
            ticker.join()
            sys.stderr.write("\r\033[K")
    if tty and time.monotonic() - started >= 1:
        sys.stderr.write(f"{title}: {elapsed()}\n")


def run(command, what, **options):
    """Runs a command that should succeed; its output is shown only when it does not."""
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    if result.returncode != 0:
        tail = result.stdout.decode(errors="replace")[-2000:]
        raise Failure(f"{what} failed (status {result.returncode}):\n{tail}")
    return result.stdout.decode(errors="replace")


def packages(*names):
    """Installs the Debian packages that are missing."""
    missing = [name for name in names if not installed(name)]
    if not missing:
        return
    line = "apt-get install -y --no-install-recommends " + " ".join(missing)
    if os.geteuid() != 0:
        raise Failure(f"packages are missing: run sudo {line}")
    with step(f"installing {' '.join(missing)}"):
        refresh_lists()
        try:
            apt("install", "-y", "--no-install-recommends", *missing)
        except Failure:
            # Lists that are out of date name versions that are gone from the mirrors.
            apt("update")
            apt("install", "-y", "--no-install-recommends", *missing)


def installed(name):
    """Whether a Debian package is installed."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def refresh_lists(age=24 * 3600):
    """Fetches the package lists where there are none, or only old ones; only root can."""
    lists = glob.glob("/var/lib/apt/lists/*_Packages*")
    if os.geteuid() != 0:
        if not lists:
            raise Failure("Debian's package lists are missing: run sudo apt-get update")
        return
    if not lists or time.time() - max(os.path.getmtime(path) for path in lists) > age:
        apt("update")


def apt(*words, **options):
    """One call of apt-get that asks nothing, and waits while another one runs."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *words]
    with locked(os.path.join(cache_dir(), ".apt.lock"), "waiting for another tool's apt-get"):
        return run(command, f"apt-get {' '.join(words)}", env=environment, **options)


def download_package(name, folder):
    """Downloads a Debian package into a folder without installing it; the path of the .deb."""
    refresh_lists()
    options = {"cwd": folder}
    if os.geteuid() == 0:
        # apt's own user cannot write to a folder that only root may enter; it needs no download user here.
        apt("-o", "APT::Sandbox::User=root", "download", name, **options)
    else:
        apt("download", name, **options)
    found = glob.glob(os.path.join(folder, name.split("=")[0] + "_*.deb"))
    if not found:
        raise Failure(f"the package {name} was downloaded and is not there")
    return found[0]


def digest(*parts):
    """A short checksum of strings; one that is the path of a file stands for the file's contents."""
    total = hashlib.sha256()
    for part in parts:
        if os.path.isfile(part):
            with open(part, "rb") as file:
                data = file.read()
        else:
            data = str(part).encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:16]


def cached(name, key, build):
    """The path of a cache entry: `build(path)` makes it if there is none under this key.

    An entry appears whole or not at all, and is built once even when several tools want it at once. Of each name
    the entries used last are kept.
    """
    folder = cache_dir(name)
    path = os.path.join(folder, key)
    if not os.path.exists(path):
        with locked(os.path.join(folder, ".lock"), f"waiting for another tool that makes {name}"):
            if not os.path.exists(path):
                make_entry(folder, path, build)
    os.utime(path)
    return path


def make_entry(folder, path, build):
    """Builds a cache entry beside its place and moves it there; the caller holds the folder's lock."""
    for name in os.listdir(folder):
        if name.startswith(".new-"):
            # A build that was killed.
            remove(os.path.join(folder, name))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
        made = os.path.join(scratch, "made")
        build(made)
        os.rename(made, path)
    entries = [os.path.join(folder, name) for name in os.listdir(folder) if not name.startswith(".")]
    for old in sorted((entry for entry in entries if entry != path), key=os.path.getmtime)[: 1 - KEPT]:
        remove(old)


@contextlib.contextmanager
def locked(path, waiting):
    """Holds a lock on a file between processes; says `waiting` as a step while another one holds it."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(waiting):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path):
    """Removes a file or a folder."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def main(body):
    """Runs a tool's body and turns a failure into one sentence and a status."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        # A standard descriptor that is closed would become the next file's.
        pass
    os.close(fd)
    # Debian keeps depmod, modprobe and mke2fs where only root's path leads.
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    try:
        sys.exit(body(sys.argv[1:]))
    except Failure as failure:
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {failure}\n")
        sys.exit(getattr(failure, "status", 1))
    except KeyboardInterrupt:
        sys.exit(130)

"""Runs commands in the testbed for clients outside: one process a client.

What a command started ends when the command ends, or when its client goes: nothing is left running.
"""

import ctypes
import fcntl
import json
import os
import pty
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import frames

PORT = 7000
# The command's output is not read while this much waits for the client.
BACKLOG = 1 << 20
PR_SET_CHILD_SUBREAPER = 36
KVM_CREATE_VM = 0xAE01
KVM_CREATE_VCPU = 0xAE41
KVM_CREATE_IRQCHIP = 0xAE60


class Gone(Exception):
    """The client is gone."""


class Outbox:
    """What waits to be sent to the client."""

    def __init__(self, connection):
        self.connection = connection
        self.waiting = bytearray()

    def put(self, frame):
        self.waiting += frame
        self.flush()

    def flush(self):
        """Sends what the connection takes now."""
        try:
            while self.waiting:
                del self.waiting[: self.connection.send(self.waiting)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Gone from error

    def full(self):
        return len(self.waiting) >= BACKLOG

    def drain(self):
        """Sends everything, however long that takes."""
        self.connection.setblocking(True)
        self.flush()


class Stdin:
    """The command's standard input: bytes that wait for it, and a report of those it took."""

    def __init__(self, fd, at_end):
        os.set_blocking(fd, False)
        self.fd = fd
        self.at_end = at_end
        self.waiting = bytearray()
        self.ending = False

    def take(self, payload):
        if self.fd is None:
            return
        if payload:
            self.waiting += payload
        else:
            self.waiting += self.at_end
            self.ending = True

    def write(self):
        """Writes what the command takes now; how many bytes that were. A command that reads no more takes none."""
        taken = 0
        if self.fd is None:
            return taken
        try:
            while self.waiting:
                count = os.write(self.fd, self.waiting)
                del self.waiting[:count]
                taken += count
        except BlockingIOError:
            return taken
        except OSError:
            self.close()
            return taken
        if self.ending:
            self.close()
        return taken

    def wants(self):
        return self.fd is not None and bool(self.waiting)

    def close(self):
        os.close(self.fd)
        self.fd = None
        self.waiting.clear()


class Command:
    """The command of a client: its process, its input, and its outputs by descriptor."""

    def __init__(self, request):
        environment = dict(os.environ, **request.get("env", {}))
        options = {"cwd": request.get("cwd") or "/", "env": environment, "start_new_session": True}
        self.terminal = None
        if request.get("tty"):
            self.start_on_terminal(request, options)
        else:
            self.start_on_pipes(request, options)
        for fd in self.outputs:
            os.set_blocking(fd, False)
        self.ended = os.pidfd_open(self.process.pid)

    def start_on_pipes(self, request, options):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(request["argv"], stdin=pipe, stdout=pipe, stderr=pipe, **options)
        self.outputs = {self.process.stdout.fileno(): b"o", self.process.stderr.fileno(): b"e"}
        self.stdin = Stdin(os.dup(self.process.stdin.fileno()), at_end=b"")
        self.process.stdin.close()

    def start_on_terminal(self, request, options):
        self.terminal, theirs = pty.openpty()
        self.resize(*request.get("size", (24, 80)))

        def control():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        try:
            self.process = subprocess.Popen(
                request["argv"], stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=control, **options
            )
        finally:
            os.close(theirs)
        self.outputs = {self.terminal: b"o"}
        # On a terminal the end of input is a character.
        self.stdin = Stdin(os.dup(self.terminal), at_end=b"\x04")

    def resize(self, rows, columns):
        if self.terminal is not None:
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number):
        """Signals the command's process group, on a terminal the one in the foreground."""
        try:
            group = self.process.pid if self.terminal is None else os.tcgetpgrp(self.terminal)
            os.killpg(group, number)
        except OSError:
            pass


class Session:
    """Relays between a client and its command."""

    def __init__(self, connection, command, received):
        connection.setblocking(False)
        self.connection = connection
        self.command = command
        self.reader = received[0]
        self.outbox = Outbox(connection)
        self.take(received[1])

    def relay(self):
        """Until the command has ended. Processes that outlive it may hold its pipes: they are not waited for."""
        selector = selectors.DefaultSelector()
        selector.register(self.command.ended, selectors.EVENT_READ)
        watched = {}
        while True:
            self.write_stdin()
            watched = watch(selector, watched, self.interest())
            ready = {key.fd for key, _ in selector.select()}
            self.outbox.flush()
            if self.connection.fileno() in ready:
                self.from_client()
            for fd in list(self.command.outputs):
                if fd in ready and not self.outbox.full():
                    self.from_command(fd)
            if self.command.ended in ready:
                break
        for fd in list(self.command.outputs):
            while self.from_command(fd):
                self.outbox.drain()
        status = self.command.process.wait()
        end_children()
        self.outbox.put(frames.pack_status(status))
        self.outbox.drain()

    def interest(self):
        """What is waited for: events by descriptor."""
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        wanted = {self.connection.fileno(): read | (write if self.outbox.waiting else 0)}
        if not self.outbox.full():
            wanted.update(dict.fromkeys(self.command.outputs, read))
        if self.command.stdin.wants():
            wanted[self.command.stdin.fd] = write
        return wanted

    def from_command(self, fd):
        """Passes one piece of output on; whether there was one."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        except OSError:
            # A terminal whose last user has left.
            data = b""
        if not data:
            del self.command.outputs[fd]
            return False
        self.outbox.put(frames.pack(self.command.outputs[fd], data))
        return True

    def from_client(self):
        try:
            data = self.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self.take(self.reader.feed(data))

    def take(self, received):
        for kind, payload in received:
            if kind == b"i":
                self.command.stdin.take(payload)
            elif kind == b"w":
                self.command.resize(*frames.unpack_size(payload))
            elif kind == b"s":
                self.command.signal(payload[0])

    def write_stdin(self):
        taken = self.command.stdin.write()
        if taken:
            self.outbox.put(frames.pack_credit(taken))


def watch(selector, watched, wanted):
    """Makes the selector wait for `wanted` where it waited for `watched`."""
    for fd in watched.keys() - wanted.keys():
        # A descriptor that was closed has left the kernel's list already.
        selector.unregister(fd)
    for fd, events in wanted.items():
        if fd not in watched:
            selector.register(fd, events)
        elif watched[fd] != events:
            selector.modify(fd, events)
    return wanted


def serve(connection, secret):
    """One client, from its request to the end of its command."""
    request, received = first(connection)
    if request.get("token") != secret:
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        command = Command(request)
    except OSError as error:
        words = f"testbed: {error.filename or request['argv'][0]}: {error.strerror}\n"
        status = 127 if isinstance(error, FileNotFoundError) else 126
        connection.sendall(frames.pack(b"e", words.encode()) + frames.pack_status(status))
        return
    try:
        Session(connection, command, received).relay()
    except Gone:
        pass
    finally:
        end_children()


def first(connection):
    """The request, and (reader, frames that came with it)."""
    reader = frames.Reader()
    while True:
        data = connection.recv(65536)
        if not data:
            sys.exit(0)
        received = reader.feed(data)
        if received:
            kind, payload = received.pop(0)
            return (json.loads(payload) if kind == b"r" else {}), (reader, received)


def end_children():
    """Kills everything that descends from this process; as its subreaper, orphans of the command's are its children."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        living = descendants(os.getpid())
        if not living:
            return
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        time.sleep(0.01)


def descendants(pid):
    """The processes below a process."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    found += [int(child), *descendants(child)]
    except OSError:
        # It ended meanwhile.
        pass
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def token():
    """The secret that clients show: in a file of the host's, whose path is on the kernel command line."""
    with open("/proc/cmdline") as file:
        for word in file.read().split():
            if word.startswith("testbed.token="):
                with open(word.split("=", 1)[1]) as secret:
                    return secret.read()
    sys.exit("agent: the kernel command line has no testbed.token=")


def main():
    secret = token()
    hold_a_vm()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(64)
    with open("/dev/console", "w") as console:
        console.write("TESTBED-READY\n")
    accept(listener, secret)


def hold_a_vm():
    """Makes a virtual machine that never runs and lives as long as this process, which keeps its descriptors.

    KVM and the scheduler have branches that are rewritten in their code when the first VM comes, when the last one goes,
    and when the last vCPU switches its APIC on (Linux static keys: preempt_notifier_key, apic_sw_disabled). While one VM
    with such a vCPU is there they stay as they are. The emulator that runs this machine is not safe against code that one
    processor changes while another runs it: without this, of some sixty guests, three at a time, one hung, and then both
    processors at such a branch (__apic_accept_irq).
    """
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        fcntl.ioctl(vm, KVM_CREATE_IRQCHIP, 0)
        fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    except OSError as error:
        print(f"testbed: no virtual machine could be made: {error}", file=sys.stderr)


def accept(listener, secret):
    """Serves each client in a process of its own, for ever."""
    while True:
        connection, _ = listener.accept()
        reap()
        if os.fork() == 0:
            listener.close()
            try:
                serve(connection, secret)
            finally:
                os._exit(0)
        connection.close()


if __name__ == "__main__":
    main()

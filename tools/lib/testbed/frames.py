"""Frames between the client and the agent: one byte of kind, four bytes of length, the payload.

| kind | from | payload |
| --- | --- | --- |
| r | client | the request as JSON: token, argv, cwd, env, tty, size |
| i | client | bytes for stdin; none at all: the end of stdin |
| s | client | a signal for the command: its number, one byte |
| w | client | window size: rows and columns, two bytes each |
| c | agent | how many bytes of stdin the command took, four bytes: so many more may be sent |
| o, e | agent | bytes of stdout, stderr |
| x | agent | the exit status, four bytes signed: negative for a signal |

**A client sends at most WINDOW bytes of stdin that are not acknowledged**, so the agent can always read what a
client says, and neither waits for the other.

This file is copied into the testbed, where the agent imports it.
"""

import struct

LIMIT = 1 << 20
WINDOW = 1 << 18


def pack(kind, payload=b""):
    """A frame as bytes."""
    return kind + struct.pack(">I", len(payload)) + payload


class Reader:
    """Cuts a stream of bytes into frames."""

    def __init__(self):
        self.buffer = bytearray()

    def feed(self, data):
        """Takes bytes of the stream; the frames that are complete, as (kind, payload)."""
        self.buffer += data
        frames, start = [], 0
        while len(self.buffer) - start >= 5:
            (size,) = struct.unpack_from(">I", self.buffer, start + 1)
            if size > LIMIT:
                raise ValueError(f"a frame of {size} bytes is larger than {LIMIT}")
            end = start + 5 + size
            if len(self.buffer) < end:
                break
            frames.append((bytes(self.buffer[start : start + 1]), bytes(self.buffer[start + 5 : end])))
            start = end
        del self.buffer[:start]
        return frames


def pack_size(rows, columns):
    """A window size frame."""
    return pack(b"w", struct.pack(">HH", rows, columns))


def unpack_size(payload):
    """Rows and columns."""
    return struct.unpack(">HH", payload)


def pack_credit(count):
    """A frame that lets the client send more of stdin."""
    return pack(b"c", struct.pack(">I", count))


def unpack_credit(payload):
    """How many bytes more."""
    return struct.unpack(">I", payload)[0]


def pack_signal(number):
    """A signal frame."""
    return pack(b"s", bytes([number]))


def pack_status(status):
    """An exit status frame."""
    return pack(b"x", struct.pack(">i", status))


def unpack_status(payload):
    """The status as a shell gives it: 128 and the number of the signal where one ended the command."""
    status = struct.unpack(">i", payload)[0]
    return status if status >= 0 else 128 - status

"""Frames between the client and the agent: one byte of kind, four bytes of length, the payload.

| kind | from | payload |
| --- | --- | --- |
| r | client | the request as JSON: token, argv, cwd, env, tty, size |
| i | client | bytes for stdin; none at all: the end of stdin |
| w | client | window size: rows and columns, two bytes each |
| o, e | agent | bytes of stdout, stderr |
| x | agent | the exit status, four bytes signed: negative for a signal |

This file is copied into the testbed, where the agent imports it.
"""

import struct

LIMIT = 1 << 20


def pack(kind, payload=b""):
    """A frame as bytes."""
    return kind + struct.pack(">I", len(payload)) + payload


class Reader:
    """Cuts a stream of bytes into frames."""

    def __init__(self):
        self.buffer = b""

    def feed(self, data):
        """Takes bytes of the stream; the frames that are complete, as (kind, payload)."""
        self.buffer += data
        frames = []
        while len(self.buffer) >= 5:
            size = struct.unpack(">I", self.buffer[1:5])[0]
            if size > LIMIT:
                raise ValueError(f"a frame of {size} bytes is larger than {LIMIT}")
            if len(self.buffer) < 5 + size:
                break
            frames.append((self.buffer[:1], self.buffer[5 : 5 + size]))
            self.buffer = self.buffer[5 + size :]
        return frames


def pack_size(rows, columns):
    """A window size frame."""
    return pack(b"w", struct.pack(">HH", rows, columns))


def unpack_size(payload):
    """Rows and columns."""
    return struct.unpack(">HH", payload)


def pack_status(status):
    """An exit status frame."""
    return pack(b"x", struct.pack(">i", status))


def unpack_status(payload):
    """The status as a shell gives it: 128 and the number of the signal where one ended the command."""
    status = struct.unpack(">i", payload)[0]
    return status if status >= 0 else 128 - status

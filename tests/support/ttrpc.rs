//! A request to a shim, as containerd writes it: ttrpc by hand, since ctr has no words for some of them.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

/// A request to the Task service: a header of length, stream, kind (1, a request) and flags, and a message of service,
/// method and payload.
pub(crate) fn request(method: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let body = [
        field(1, "containerd.task.v2.Task"),
        field(2, method),
        field(3, payload),
    ];
    let body = body.concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[..], &[0, 0, 0, 1], &[1, 0], &body].concat()
}

/// A field of a protobuf message, of bytes that are fewer than 16,384.
pub(crate) fn field(number: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let [low, high, ..] = value.len().to_le_bytes();
    let length = [low | 0x80, high << 1 | low >> 7];
    [&[number << 3 | 2], &length[..], value].concat()
}

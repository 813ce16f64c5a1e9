//! What a process of the host says first: `CONNECT PORT`, a line.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// The longest line, with its end: no port has more than ten digits, and blanks are nobody's need.
const LONGEST: usize = 32;

/// What was found of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The whole of it: the port of the guest.
    Port(u32),
    /// Not its end yet.
    Unfinished,
    /// Something else, or nobody any more.
    Bad,
}

/// Takes the line from `stream`, and nothing of what may stand behind it: those bytes are the guest's.
pub(super) fn take(stream: BorrowedFd<'_>) -> Greeting {
    let mut text = [0; LONGEST];
    match receive(stream, &mut text, RecvFlags::PEEK) {
        Ok(0) => Greeting::Bad,
        Ok(n) => {
            let seen = text.get(..n).unwrap_or_default();
            match seen.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let line = seen.get(..end).unwrap_or_default();
                    let port = port(line);
                    let whole = end.saturating_add(1);
                    let mut gone = [0; LONGEST];
                    let into = gone.get_mut(..whole).unwrap_or_default();
                    match receive(stream, into, RecvFlags::empty()) {
                        Ok(n) if n == whole => port.map_or(Greeting::Bad, Greeting::Port),
                        _ => Greeting::Bad,
                    }
                }
                None if n >= LONGEST => Greeting::Bad,
                None => Greeting::Unfinished,
            }
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Greeting::Unfinished,
        Err(_) => Greeting::Bad,
    }
}

fn receive(stream: BorrowedFd<'_>, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match recv(stream, &mut *into, flags | RecvFlags::DONTWAIT) {
            Ok((n, _)) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The port in a line without its end. As Firecracker has it: the word in any case, then the number, whatever blanks
/// there are, and nobody looks at what follows.
fn port(line: &[u8]) -> Option<u32> {
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let is_known = words.next()?.eq_ignore_ascii_case("connect");
    is_known.then(|| words.next()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_line_names_a_port() {
        for (line, wanted) in [
            ("CONNECT 52", Some(52)),
            ("connect 4294967295", Some(u32::MAX)),
            ("Connect  7 \r", Some(7)),
            ("CONNECT 4294967296", None),
            ("CONNECT -1", None),
            ("CONNECT", None),
            ("CONNECT x", None),
            ("", None),
            ("GET / HTTP/1.1", None),
            ("CONNECTED 5", None),
        ] {
            assert_eq!(port(line.as_bytes()), wanted, "{line:?}");
        }
    }

    fn said(bytes: &[u8]) -> (Greeting, UnixStream, UnixStream) {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(bytes).unwrap();
        (take(ours.as_fd()), ours, theirs)
    }

    #[test]
    fn what_stands_behind_the_line_is_the_guests() {
        let (greeting, mut ours, theirs) = said(b"CONNECT 9\nhello");
        assert_eq!(greeting, Greeting::Port(9));
        drop(theirs);
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "hello");
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        let (greeting, ours, mut theirs) = said(b"CONN");
        assert_eq!(greeting, Greeting::Unfinished);
        theirs.write_all(b"ECT 9\n").unwrap();
        assert_eq!(take(ours.as_fd()), Greeting::Port(9));
        assert_eq!(take(ours.as_fd()), Greeting::Unfinished);
    }

    #[test]
    fn a_line_without_an_end_is_not_waited_for() {
        assert_eq!(said(&[b'C'; LONGEST - 1]).0, Greeting::Unfinished);
        assert_eq!(said(&[b'C'; LONGEST]).0, Greeting::Bad);
    }

    #[test]
    fn who_leaves_without_a_word_is_not_waited_for() {
        let (_, ours, theirs) = said(b"");
        drop(theirs);
        assert_eq!(take(ours.as_fd()), Greeting::Bad);
    }
}

//! Ctrl-A and a letter: how a user on a raw terminal talks to ravelin and not to the guest.

/// The escape key, Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What the escape keys do.
pub(crate) const HELP: &str = "keys of this console
  Ctrl-A x  end the guest at once
  Ctrl-A c  this help
  Ctrl-A a  send Ctrl-A to the guest";

/// What a user asks of ravelin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// End the guest.
    Stop,
    /// Show the keys.
    Help,
}

/// Splits what is typed into what is for the guest and what is for ravelin.
#[derive(Debug, Default)]
pub(crate) struct Escape {
    pending: bool,
}

impl Escape {
    /// Appends what is for the guest to `guest` and returns what is for ravelin, in order.
    pub(crate) fn feed(&mut self, typed: &[u8], guest: &mut Vec<u8>) -> Vec<Action> {
        let mut actions = Vec::new();
        for byte in typed {
            if !std::mem::take(&mut self.pending) {
                match *byte {
                    ESCAPE => self.pending = true,
                    other => guest.push(other),
                }
                continue;
            }
            match byte {
                b'x' | b'X' => actions.push(Action::Stop),
                b'c' | b'C' | b'?' => actions.push(Action::Help),
                b'a' | b'A' | &ESCAPE => guest.push(ESCAPE),
                // Not ours: the guest gets both keys, as if there were no escape.
                other => guest.extend([ESCAPE, *other]),
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(parts: &[&[u8]]) -> (Vec<u8>, Vec<Action>) {
        let mut escape = Escape::default();
        let (mut guest, mut actions) = (Vec::new(), Vec::new());
        for part in parts {
            actions.extend(escape.feed(part, &mut guest));
        }
        (guest, actions)
    }

    #[test]
    fn plain_keys_go_to_the_guest() {
        assert_eq!(feed(&[b"ls\x03\r"]), (b"ls\x03\r".to_vec(), vec![]));
    }

    #[test]
    fn an_escape_split_over_two_reads_is_one() {
        assert_eq!(
            feed(&[b"a\x01", b"xb"]),
            (b"ab".to_vec(), vec![Action::Stop])
        );
    }

    #[test]
    fn ctrl_a_twice_or_a_sends_one_ctrl_a() {
        assert_eq!(feed(&[b"\x01\x01\x01a"]), (b"\x01\x01".to_vec(), vec![]));
    }

    #[test]
    fn an_unknown_letter_goes_to_the_guest_with_its_escape() {
        assert_eq!(feed(&[b"\x01d"]), (b"\x01d".to_vec(), vec![]));
    }

    #[test]
    fn help_is_asked_for_with_c() {
        assert_eq!(feed(&[b"\x01c"]).1, vec![Action::Help]);
    }
}

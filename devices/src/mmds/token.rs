//! Session tokens: what a guest shows to read its data under V2.
//!
//! A token says when it ends and carries a MAC over that under a key that this VM alone has:
//!
//! | digits | what |
//! | --- | --- |
//! | 16 | a number that no other token of this VM has |
//! | 16 | when it ends, in milliseconds since the service was made |
//! | 32 | the first half of HMAC-SHA-256 over both |
//!
//! So there is no table of tokens: **whatever a guest asks for, nothing grows, and no process in the
//! guest can push out the token of another.** The key is made when the service is, and never leaves it: a
//! token of one VM is worth nothing in another, nor in a copy of the same VM from a snapshot.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The shortest life of a token in seconds.
const SHORTEST: u32 = 1;
/// The longest one, 6 hours.
const LONGEST: u32 = 21_600;
/// The digits of a number, and those of the MAC.
const NUMBER: usize = 16;
const MAC: usize = 32;
/// The bytes of a key: HMAC-SHA-256's block, so that no key is hashed or filled up.
pub(super) const KEY: usize = 64;

/// Gives out tokens and knows them again.
pub(super) struct Tokens {
    /// Ready to take data: the key is inside.
    mac: Hmac<Sha256>,
    next: AtomicU64,
}

/// A life that no token may have. The text is Firecracker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Invalid time to live value provided for token: {0}. Please provide a value between {SHORTEST} and {LONGEST}."
)]
pub(super) struct LifeError(u32);

impl Tokens {
    /// Tokens under a key that nobody can guess and nobody else has.
    pub(super) fn new(key: &[u8; KEY]) -> Self {
        let key = (*key).into();
        Self {
            mac: Hmac::new(&key),
            next: AtomicU64::new(0),
        }
    }

    /// A token of a life of `seconds`, 1 to 21600, from `now` on.
    pub(super) fn issue(&self, now: Duration, seconds: u32) -> Result<String, LifeError> {
        if !(SHORTEST..=LONGEST).contains(&seconds) {
            return Err(LifeError(seconds));
        }
        let end = now.saturating_add(Duration::from_secs(seconds.into()));
        let end = u64::try_from(end.as_millis()).unwrap_or(u64::MAX);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let claim = format!("{number:016x}{end:016x}");
        let mac = self.over(&claim).finalize().into_bytes();
        let mac = mac.iter().take(MAC / 2);
        Ok(mac.fold(claim, |token, byte| format!("{token}{byte:02x}")))
    }

    /// Whether `token` was issued here and has not ended.
    pub(super) fn is_valid(&self, now: Duration, token: &str) -> bool {
        let Some((claim, mac)) = token.split_at_checked(2 * NUMBER) else {
            return false;
        };
        let Some(mac) = bytes(mac) else {
            return false;
        };
        // In constant time: how much of a MAC was right must not show.
        if self.over(claim).verify_truncated_left(&mac).is_err() {
            return false;
        }
        let end = claim.get(NUMBER..).map(|end| u64::from_str_radix(end, 16));
        matches!(end, Some(Ok(end)) if u128::from(end) > now.as_millis())
    }

    fn over(&self, claim: &str) -> Hmac<Sha256> {
        self.mac.clone().chain_update(claim.as_bytes())
    }
}

impl fmt::Debug for Tokens {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// The bytes of a MAC in hexadecimal digits, of its full length only.
fn bytes(digits: &str) -> Option<[u8; MAC / 2]> {
    if digits.len() != MAC || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(7);

    fn tokens(key: u8) -> Tokens {
        Tokens::new(&[key; KEY])
    }

    fn after(seconds: u64) -> Duration {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_valid_until_it_ends() {
        let tokens = tokens(1);
        let token = tokens.issue(START, 60).unwrap();
        assert!(tokens.is_valid(START, &token));
        assert!(tokens.is_valid(after(60) - Duration::from_millis(1), &token));
        assert!(!tokens.is_valid(after(60), &token));
    }

    #[test]
    fn a_life_outside_the_limits_is_refused() {
        let tokens = tokens(1);
        for seconds in [0, 21_601, u32::MAX] {
            let text = format!(
                "Invalid time to live value provided for token: {seconds}. Please provide a value between 1 and 21600."
            );
            assert_eq!(tokens.issue(START, seconds).unwrap_err().to_string(), text);
        }
        assert!(tokens.issue(START, 1).is_ok() && tokens.issue(START, 21_600).is_ok());
    }

    #[test]
    fn no_two_tokens_are_equal() {
        let tokens = tokens(1);
        let [first, second] = [60, 60].map(|seconds| tokens.issue(START, seconds).unwrap());
        assert_ne!(first, second);
    }

    #[test]
    fn a_token_of_one_vm_is_none_of_another() {
        let [mine, other] = [1, 2].map(tokens);
        let token = mine.issue(START, 60).unwrap();
        assert!(!other.is_valid(START, &token));
    }

    #[test]
    fn a_changed_token_is_none() {
        let tokens = tokens(1);
        let token = tokens.issue(START, 60).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!tokens.is_valid(START, &changed), "digit {at}");
        }
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_none() {
        let tokens = tokens(1);
        let token = tokens.issue(START, 60).unwrap();
        let plus = format!("{}+{}", &token[..32], &token[33..]);
        for text in ["", "foo", &token[1..], &token[..63], &plus, &"é".repeat(32)] {
            assert!(!tokens.is_valid(START, text), "{text}");
        }
        for text in [format!("{token}0"), format!(" {token}"), "f".repeat(8000)] {
            assert!(!tokens.is_valid(START, &text), "{text}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", tokens(1)), "Tokens");
    }
}

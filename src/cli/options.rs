//! What the options behind the commas of `--disk` and `--net` have in common.

use vmm::spec::{RateLimiter, TokenBucket};

use super::size;

/// The refill time of a limit per second, in milliseconds.
const SECOND: u64 = 1000;

/// The limits of a device, which may not have had any.
pub(super) fn limits(limiter: &mut Option<RateLimiter>) -> &mut RateLimiter {
    limiter.get_or_insert_with(RateLimiter::default)
}

/// A bucket that lets `value` tokens through each second.
///
/// # Errors
/// A sentence with what was expected.
pub(super) fn per_second(value: &str) -> Result<TokenBucket, String> {
    let size = size::bytes(value)?;
    if size == 0 {
        return Err("a limit of 0 would stop the device: leave it out for no limit".to_owned());
    }
    Ok(TokenBucket {
        size,
        refill_time: SECOND,
        one_time_burst: None,
    })
}

/// A sentence about an option with a wrong value.
pub(super) fn expected(name: &str, given: &str, wanted: &str) -> String {
    format!("{name}={given} was given and {name}={wanted} was expected")
}

//! An attack from inside, for tests alone: a thread that is confined makes a system call of the test's choice.
#![expect(unsafe_code, reason = "whatever the test wants to see refused")]

use std::env;

use super::Role;

/// What is attacked: `ROLE:NUMBER[:ARGUMENT...]`, or `ROLE:panic`.
const VARIABLE: &str = "RAVELIN_REDTEAM";

/// Makes the call that the environment names for threads of `role`, and tells what came of it.
pub(super) fn strike(role: Role) {
    let Ok(order) = env::var(VARIABLE) else {
        return;
    };
    let mut words = order.split(':');
    if words.next() != Some(&role.to_string()) {
        return;
    }
    let words: Vec<_> = words.collect();
    assert_ne!(words, ["panic"], "the panic that {VARIABLE} asked for");
    let mut numbers = words.iter().map(|word| word.parse::<i64>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let (call, a, b, c, d, e, f) = (next(), next(), next(), next(), next(), next(), next());
    // SAFETY: none but the test's word: its calls take no pointer, or null.
    let outcome = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    eprintln!("redteam: system call {call} was made and gave {outcome}");
}

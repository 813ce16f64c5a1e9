//! Landlock without a single rule: no file, no port, no signal to others, no abstract socket (landlock(7)).

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// Denies this process, and what it starts, whatever this kernel can deny; false where it has no Landlock.
///
/// # Errors
/// When the kernel has Landlock, and does not take the rules or does not obey them: a file is tried.
pub(super) fn restrict() -> io::Result<bool> {
    let abi = ABI::V6;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(abi)))
        .and_then(|rules| rules.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.no_new_privs(false).restrict_self());
    let status = restricted.map_err(io::Error::other)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Ok(false);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open("/", flags, Mode::empty()) {
        Err(Errno::ACCESS) => Ok(true),
        _ => Err(io::Error::other(
            "the kernel took its rules and does not obey them",
        )),
    }
}

//! Filters of system calls from `linux.seccomp` of the specification.
//!
//! The kernel asks every filter of a process and obeys the strictest answer. So for each action that rules have there is a
//! filter, which gives it to what its rules name, and lets everything else through; and one that lets through what any
//! rule names, and gives everything else the default action. That one is put on last: it may forbid to put on others.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction as Action, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use syscalls::Sysno;

use super::{During, RunError};
use crate::raw;
use crate::spec::{ArgumentRule, Operator, Seccomp, SeccompAction, SyscallRule};

/// EPERM, where a profile names no error.
const EPERM: u16 = 1;
/// The most different actions of a profile.
const MOST_ACTIONS: usize = 16;

/// Filters, and the flags that they are put on with.
pub(crate) struct Filters {
    programs: Vec<BpfProgram>,
    flags: libc::c_ulong,
}

/// For each call what its arguments must be: one of these, or nothing at all.
type Rules = BTreeMap<i64, Option<Vec<SeccompRule>>>;

/// Makes the filters.
///
/// # Errors
///
/// A profile that cannot be made into filters: too long, or with a flag or a condition that is none.
pub(crate) fn compile(profile: &Seccomp) -> io::Result<Filters> {
    let default = action(profile.default_action, profile.default_errno_ret)?;
    let mut named = Rules::new();
    let mut others: Vec<(Action, Rules)> = Vec::new();
    for rule in &profile.syscalls {
        let wanted = action(rule.action, rule.errno_ret)?;
        add(&mut named, rule)?;
        if wanted == Action::Allow {
            continue;
        }
        let place = match others.iter().position(|(other, _)| *other == wanted) {
            Some(place) => place,
            None if others.len() >= MOST_ACTIONS => {
                return Err(io::Error::other("it has too many different actions"));
            }
            None => {
                others.push((wanted, Rules::new()));
                others.len() - 1
            }
        };
        add(&mut others[place].1, rule)?;
    }
    let mut programs = Vec::new();
    for (action, rules) in others {
        if !rules.is_empty() {
            programs.push(program(rules, Action::Allow, action)?);
        }
    }
    // Where everything is let through by default there is nothing to do for it.
    if default != Action::Allow {
        programs.push(program(named, default, Action::Allow)?);
    }
    Ok(Filters {
        programs,
        flags: flags(&profile.flags)?,
    })
}

/// Puts them on.
pub(super) fn install(filters: Option<&Filters>) -> Result<(), RunError> {
    for program in filters.iter().flat_map(|filters| &filters.programs) {
        let flags = filters.map_or(0, |filters| filters.flags);
        raw::set_filter(program, flags).during("put on the filter of system calls")?;
    }
    Ok(())
}

fn flags(names: &[String]) -> io::Result<libc::c_ulong> {
    names.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                // The process has one thread.
                "SECCOMP_FILTER_FLAG_TSYNC" => 0,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                other => {
                    return Err(io::Error::other(format!(
                        "its flag {other} cannot be obeyed: leave it out"
                    )));
                }
            })
    })
}

fn program(rules: Rules, otherwise: Action, matching: Action) -> io::Result<BpfProgram> {
    // To the library no rule is what names a call whatever its arguments are.
    let rules = rules
        .into_iter()
        .map(|(call, rules)| (call, rules.unwrap_or_default()))
        .collect();
    SeccompFilter::new(rules, otherwise, matching, TargetArch::x86_64)
        .and_then(BpfProgram::try_from)
        .map_err(io::Error::other)
}

fn action(action: SeccompAction, errno: Option<u16>) -> io::Result<Action> {
    Ok(match action {
        SeccompAction::ScmpActKill | SeccompAction::ScmpActKillThread => Action::KillThread,
        SeccompAction::ScmpActKillProcess => Action::KillProcess,
        SeccompAction::ScmpActTrap => Action::Trap,
        SeccompAction::ScmpActErrno => Action::Errno(errno.unwrap_or(EPERM).into()),
        SeccompAction::ScmpActTrace => Action::Trace(errno.unwrap_or(EPERM).into()),
        SeccompAction::ScmpActLog => Action::Log,
        SeccompAction::ScmpActAllow => Action::Allow,
        SeccompAction::ScmpActNotify => {
            return Err(io::Error::other("a guest has no listener of the host"));
        }
    })
}

/// Adds a rule for all of its calls. A name that this kernel's architecture does not have names nothing.
fn add(rules: &mut Rules, rule: &SyscallRule) -> io::Result<()> {
    for name in &rule.names {
        let Ok(number) = name.parse::<Sysno>() else {
            continue;
        };
        let place = rules
            .entry(i64::from(number.id()))
            .or_insert_with(|| Some(Vec::new()));
        if rule.args.is_empty() {
            *place = None;
        } else if let Some(place) = place {
            place.extend(conditions(&rule.args)?);
        }
    }
    Ok(())
}

/// Conditions hold together; but those of one argument are each enough, as other runtimes have it.
fn conditions(arguments: &[ArgumentRule]) -> io::Result<Vec<SeccompRule>> {
    let twice = arguments.iter().enumerate().any(|(place, argument)| {
        arguments[..place]
            .iter()
            .any(|other| other.index == argument.index)
    });
    let rule =
        |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions).map_err(io::Error::other);
    let all: Vec<SeccompCondition> = arguments.iter().map(condition).collect::<io::Result<_>>()?;
    if twice {
        return all.into_iter().map(|one| rule(vec![one])).collect();
    }
    Ok(vec![rule(all)?])
}

fn condition(argument: &ArgumentRule) -> io::Result<SeccompCondition> {
    let (operator, value) = match argument.op {
        Operator::ScmpCmpNe => (SeccompCmpOp::Ne, argument.value),
        Operator::ScmpCmpLt => (SeccompCmpOp::Lt, argument.value),
        Operator::ScmpCmpLe => (SeccompCmpOp::Le, argument.value),
        Operator::ScmpCmpEq => (SeccompCmpOp::Eq, argument.value),
        Operator::ScmpCmpGe => (SeccompCmpOp::Ge, argument.value),
        Operator::ScmpCmpGt => (SeccompCmpOp::Gt, argument.value),
        Operator::ScmpCmpMaskedEq => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
    };
    SeccompCondition::new(argument.index, SeccompCmpArgLen::Qword, operator, value)
        .map_err(io::Error::other)
}

//! The seccomp filters of each thread: whether there are any, and what they let through.

mod bpf;
mod calls;
mod outcome;
mod readback;
#[cfg(test)]
mod tests;

use self::bpf::Instruction;
use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use nix::sys::signal::{SigSet, SigmaskHow};

pub(crate) use self::calls::Calls;
use self::readback::ReadError;
use super::report::Finding;
use super::threads::{Thread, over};

/// Filters, and what they let through.
type Known = (Vec<Vec<Instruction>>, Result<Calls, String>);

/// The wall that stands without a look at what the filters say.
pub(super) const WALL: &str = "seccomp";

/// Whether every thread has filters. The kernel's own threads in the process never run its code.
pub(super) fn look(threads: &[Thread]) -> Finding {
    let own: Vec<_> = threads
        .iter()
        .filter(|thread| !thread.in_kernel)
        .cloned()
        .collect();
    over(&own, mode)
}

/// Reads the filters of each thread of the process whose first thread is `first`, and judges what they let through, which is
/// kept with each thread.
pub(super) fn read_back(first: u32, threads: &mut [Thread]) -> Vec<(&'static str, Finding)> {
    let mut faults = Vec::new();
    let mut known: Vec<Known> = Vec::new();
    let held = hold_signals();
    for thread in threads.iter_mut().filter(|thread| has_filters(thread)) {
        match calls_of(thread.tid, &mut known) {
            Ok(calls) => thread.syscalls = Some(calls),
            Err(fault) => faults.push((thread.tid, fault)),
        }
    }
    drop(held);
    let fault = |thread: &Thread| {
        let found = faults.iter().find(|(tid, _)| *tid == thread.tid);
        found.map(|(_, fault)| fault.as_str())
    };
    let of_program = |thread: &&Thread| !thread.in_kernel;
    let own: Vec<_> = threads.iter().filter(of_program).cloned().collect();
    let lists = over(&own, |thread| {
        let is_first = thread.tid == first;
        known_of(thread, fault(thread), |calls| {
            list(calls, most(&thread.name, is_first))
        })
    });
    let wall =
        |judge: fn(&Calls) -> Finding| over(&own, |thread| known_of(thread, fault(thread), judge));
    vec![
        ("syscall-list", lists),
        ("syscall-ban", wall(ban)),
        ("syscall-abi", wall(foreign)),
        (
            "landlock",
            Finding::not_testable("Landlock has no view in /proc: only who is inside can try it"),
        ),
    ]
}

/// Holds up what would end this process (Ctrl-C and the like) while threads of another stand still: each is
/// let go in order. It takes half a second a thread at most.
fn hold_signals() -> impl Drop {
    struct Held(Option<SigSet>);
    impl Drop for Held {
        fn drop(&mut self) {
            if let Some(before) = self.0 {
                // Fails for a set that is none only.
                let _ = before.thread_set_mask();
            }
        }
    }
    let ends = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];
    let ends: SigSet = ends.into_iter().collect();
    Held(ends.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
}

fn has_filters(thread: &Thread) -> bool {
    thread.status.seccomp == Some(2) && !thread.in_kernel
}

/// Threads share filters: each stack of them is evaluated once.
fn calls_of(tid: u32, known: &mut Vec<Known>) -> Result<Calls, String> {
    let filters = readback::filters(tid).map_err(|error| sentence(&error))?;
    if filters.is_empty() {
        return Err("the kernel shows no filter, and says that there are some".to_owned());
    }
    if let Some((_, calls)) = known.iter().find(|(stack, _)| *stack == filters) {
        return calls.clone();
    }
    let calls = calls::evaluate(&filters).map_err(|error| error.to_string());
    known.push((filters, calls.clone()));
    calls
}

fn sentence(error: &ReadError) -> String {
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    match error {
        ReadError::Attach(cause) | ReadError::Filter(cause) if denied(cause) => format!(
            "{error}; it takes CAP_SYS_ADMIN and CAP_SYS_PTRACE, and no filter on who asks: audit as root outside containers"
        ),
        _ => error.to_string(),
    }
}

/// Whether the thread has filters at all (proc_pid_status(5): 0 none, 1 strict, 2 filters).
fn mode(thread: &Thread) -> Finding {
    match (thread.status.seccomp, thread.status.seccomp_filters) {
        (Some(0), _) => Finding::absent("no filter"),
        (Some(1), _) => Finding::in_force("strict mode: read, write, exit and sigreturn only"),
        (Some(2), Some(1)) => Finding::in_force("1 filter"),
        (Some(2), Some(count)) if count > 1 => Finding::in_force(format!("{count} filters")),
        (Some(2), _) => Finding::in_force("filters, of a number that this kernel does not tell"),
        _ => Finding::silent("whether its threads have filters"),
    }
}

fn known_of(thread: &Thread, fault: Option<&str>, judge: impl Fn(&Calls) -> Finding) -> Finding {
    match (&thread.syscalls, thread.status.seccomp) {
        (Some(calls), _) => judge(calls),
        (None, Some(0)) => Finding::absent("no filter"),
        (None, Some(1)) => Finding::in_force("strict mode"),
        (None, _) => Finding::not_testable(fault.unwrap_or("its filters were not read")),
    }
}

/// How many calls the filters of a thread may let through, by what it is for: ravelin's own lists are no longer.
/// A thread chooses its name itself, and so the shortest list that it is judged by; every other wall is judged whatever
/// its name is.
fn most(name: &str, is_first: bool) -> usize {
    match name {
        _ if is_first => 40,
        "api" | "fc_api" => 25,
        _ if name.starts_with("vcpu") || name.starts_with("fc_vcpu") => 20,
        // It serves devices, of which a VM has many kinds.
        _ => 25,
    }
}

/// What is not on the list must be refused: most numbers are no call at all, so a list is far shorter.
fn list(calls: &Calls, most: usize) -> Finding {
    let rest = match calls.rest.is_empty() {
        true => "nothing is refused".to_owned(),
        false => format!("the rest: {}", calls.rest.join(" or ")),
    };
    let text = format!(
        "{} calls, {} of them by argument; {rest}",
        calls.count,
        calls.by_argument.len()
    );
    match calls.count <= most {
        true => Finding::in_force(text),
        false => Finding::absent(format!("{text}; at most {most} are needed")),
    }
}

fn ban(calls: &Calls) -> Finding {
    match calls.dangerous.is_empty() {
        true => Finding::in_force("none is let through whatever its arguments"),
        false => Finding::absent(format!("let through: {}", calls.dangerous.join(", "))),
    }
}

fn foreign(calls: &Calls) -> Finding {
    match (calls.x32, calls.i386) {
        (0, 0) => Finding::in_force("x32 and 32-bit calls are refused"),
        (x32, i386) => Finding::absent(format!(
            "{x32} numbers of x32 and {i386} of 32-bit x86 are let through"
        )),
    }
}

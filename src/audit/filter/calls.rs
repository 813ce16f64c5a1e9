//! Filters evaluated over every call: which pass, which pass with some arguments only, what befalls the rest.

use serde::Serialize;
use syscalls::x86_64::Sysno;

use super::bpf::{BadInstruction, Call, Instruction, outcomes};
use super::outcome::{Action, Outcomes};

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` (Linux `uapi/linux/audit.h`).
pub(super) const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
/// The bit in the numbers of x32's calls (Linux `arch/x86/include/uapi/asm/unistd.h`).
const X32_BIT: u32 = 0x4000_0000;
/// Numbers below this are tried: more than twice as many as there are calls, so that those of the next years'
/// kernels are looked at too.
const NUMBERS: u32 = 1024;

/// Calls by which a process that was taken over gets at what it does not hold already: names of files,
/// programs, sockets, other processes, the kernel's larger interfaces.
const DANGEROUS: [Sysno; 43] = [
    Sysno::open,
    Sysno::openat,
    Sysno::openat2,
    Sysno::open_by_handle_at,
    Sysno::creat,
    Sysno::execve,
    Sysno::execveat,
    Sysno::fork,
    Sysno::vfork,
    Sysno::clone,
    Sysno::clone3,
    Sysno::unshare,
    Sysno::setns,
    Sysno::socket,
    Sysno::connect,
    Sysno::bind,
    Sysno::listen,
    Sysno::ptrace,
    Sysno::process_vm_readv,
    Sysno::process_vm_writev,
    Sysno::pidfd_open,
    Sysno::pidfd_getfd,
    Sysno::kill,
    Sysno::tkill,
    Sysno::mount,
    Sysno::umount2,
    Sysno::move_mount,
    Sysno::open_tree,
    Sysno::pivot_root,
    Sysno::chroot,
    Sysno::mknod,
    Sysno::mknodat,
    Sysno::bpf,
    Sysno::perf_event_open,
    Sysno::userfaultfd,
    Sysno::io_uring_setup,
    Sysno::keyctl,
    Sysno::add_key,
    Sysno::request_key,
    Sysno::init_module,
    Sysno::finit_module,
    Sysno::kexec_load,
    Sysno::reboot,
];

/// What a thread's filters let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Calls {
    /// How many calls are let through, by their arguments or whatever those are.
    pub(crate) count: usize,
    /// Calls that are let through whatever their arguments.
    pub(crate) allowed: Vec<String>,
    /// Calls that are let through with some arguments.
    pub(crate) by_argument: Vec<String>,
    /// What befalls the others.
    pub(crate) rest: Vec<&'static str>,
    /// Calls of x32 that are let through.
    pub(crate) x32: usize,
    /// Calls of 32-bit x86 that are let through.
    pub(crate) i386: usize,
    /// Those of the dangerous calls that are let through whatever their arguments.
    pub(crate) dangerous: Vec<String>,
}

/// Evaluates a thread's filters. **Without a filter nothing is refused.**
///
/// # Errors
/// When a filter holds what the kernel does not take.
pub(super) fn evaluate(filters: &[Vec<Instruction>]) -> Result<Calls, BadInstruction> {
    let mut calls = Calls::default();
    let mut rest = Outcomes::default();
    for number in 0..NUMBERS {
        let arch = X86_64;
        let found = combined(filters, Call { arch, number })?;
        if found.refused() {
            rest.extend(found);
        } else if found.by_argument() {
            calls.by_argument.push(name(number));
        } else {
            calls.allowed.push(name(number));
            if DANGEROUS.iter().any(|call| call.name() == name(number)) {
                calls.dangerous.push(name(number));
            }
        }
    }
    calls.count = calls.allowed.len() + calls.by_argument.len();
    calls.rest = rest.words().collect();
    calls.x32 = passing(filters, X86_64, X32_BIT)?;
    calls.i386 = passing(filters, I386, 0)?;
    Ok(calls)
}

fn passing(filters: &[Vec<Instruction>], arch: u32, bit: u32) -> Result<usize, BadInstruction> {
    let mut count = 0;
    for number in 0..NUMBERS {
        let number = number | bit;
        if !combined(filters, Call { arch, number })?.refused() {
            count += 1;
        }
    }
    Ok(count)
}

fn combined(filters: &[Vec<Instruction>], call: Call) -> Result<Outcomes, BadInstruction> {
    let mut all = Outcomes::only(Action::Allow);
    for filter in filters {
        all = all.and(outcomes(filter, call)?);
    }
    Ok(all)
}

/// A call's name, or its number where it has none (yet).
fn name(number: u32) -> String {
    let known = usize::try_from(number).ok().and_then(Sysno::new);
    known.map_or_else(|| number.to_string(), |call| call.name().to_owned())
}

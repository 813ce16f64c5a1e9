//! A guest of four instructions that tells whether this KVM can boot Linux.
//!
//! Stock Linux uses `cmpxchg16b` at privilege level 0 before its first line of output. A KVM on Intel VMX
//! or AMD SVM lets the processor execute it. A KVM that interprets privileged guest code (page-table
//! virtualisation inside a virtual machine) stops there with an emulation error, although each of its
//! ioctls works. So the answer comes from running the instruction, not from a capability.
//!
//! The guest is entered exactly as Linux is by its 64-bit boot protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use vm_memory::{Address, Bytes, GuestAddress};
use vmm_sys_util::signal::Killable;

use crate::arch::x86_64::{Cores, Processors, Protocol, Start, VcpuCount, layout, write_tables};
use crate::end::GuestEnd;
use crate::kvm::{Exit, Kvm, Vcpu, Vm, VmOptions, accept_kicks, kick_signal};
use crate::memory::{self, GuestMemory, HugePages, MemorySize};
use crate::spec::CpuFeatures;

/// What the probe guest showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    /// The processor executed the privileged code: stock Linux can boot.
    Native,
    /// The privileged code did not get through: stock Linux cannot boot. `why` is KVM's answer.
    Emulated { why: String },
    /// The question has no answer. `why` stood in the way.
    Unknown { why: String },
}

/// A wall-clock limit that only a KVM that hangs can reach: the guest has no loop.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);

/// How long a guest that is past its limit may take to leave. A thread that still stands in the kernel
/// afterwards is left to the end of the process.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the probe guest on a thread of its own and waits for it, at most `limit` and a second.
pub(super) fn run(kvm: Kvm, limit: Duration) -> Probe {
    run_code(kvm, &EXCHANGE, limit)
}

/// `lock cmpxchg16b [rsi]; sete al; out ANSWER_PORT, al; hlt`.
const EXCHANGE: [u8; 11] = [
    0xf0,
    0x48,
    0x0f,
    0xc7,
    0x0e,
    0x0f,
    0x94,
    0xc0,
    0xe6,
    ANSWER_PORT,
    0xf4,
];
const ANSWER_PORT: u8 = 0x80;
const CODE_START: GuestAddress = layout::KERNEL_START;
/// The 16 bytes that the code exchanges; aligned to 16, as the instruction demands.
const DATA: GuestAddress = layout::ZERO_PAGE;
const OLD: [u64; 2] = [0x5555_6666_7777_8888, 0x1111_2222_3333_4444];
const NEW: [u64; 2] = [0xdddd_eeee_ffff_0123, 0x9999_aaaa_bbbb_cccc];

fn run_code(kvm: Kvm, code: &'static [u8], limit: Duration) -> Probe {
    // Before the thread exists: the limit may pass while it still makes its machine.
    if let Err(error) = accept_kicks() {
        return unknown(format!("no signal handler for the probe guest: {error}"));
    }
    let (sender, receiver) = channel();
    let late = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&late);
    let thread = Builder::new().name("probe".to_owned()).spawn(move || {
        let probe = outcome(&kvm, code, &seen).unwrap_or_else(|why| Probe::Unknown { why });
        // The receiver is gone only after the limit and the grace: nobody waits for this answer.
        sender.send(probe).ok();
    });
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return unknown(format!("no thread for the probe guest: {error}")),
    };
    match receiver.recv_timeout(limit) {
        Ok(probe) => probe,
        Err(RecvTimeoutError::Disconnected) => {
            unknown("the thread of the probe guest ended without an answer")
        }
        Err(RecvTimeoutError::Timeout) => {
            // The flag comes first, so that a kick before the guest is entered is seen as well.
            late.store(true, Ordering::Release);
            thread.kill(kick_signal()).ok();
            // What it says now does not count; waiting only keeps the thread from outliving this call.
            receiver.recv_timeout(GRACE).ok();
            unknown(format!(
                "the probe guest did not end within {} ms",
                limit.as_millis()
            ))
        }
    }
}

fn unknown(why: impl Into<String>) -> Probe {
    Probe::Unknown { why: why.into() }
}

fn outcome(kvm: &Kvm, code: &[u8], late: &AtomicBool) -> Result<Probe, String> {
    let memory = guest_memory(code)?;
    let vm = Vm::create(kvm, &memory, VmOptions::default()).map_err(|error| error.to_string())?;
    let vcpu = enter(kvm, &vm).map_err(|error| error.to_string())?;
    let mut vcpu = vcpu
        .bind()
        .map_err(|error| format!("the probe guest's vCPU could not be bound: {error}"))?;
    while !late.load(Ordering::Acquire) {
        match vcpu.run() {
            Exit::Interrupted => {}
            exit => return Ok(judge(&exit, &memory)),
        }
    }
    Ok(unknown("the probe guest was called back"))
}

fn guest_memory(code: &[u8]) -> Result<GuestMemory, String> {
    let size = MemorySize::on_this_host(MemorySize::MIN_MIB).map_err(|error| error.to_string())?;
    let memory = memory::create(size, HugePages::HostDefault).map_err(|error| error.to_string())?;
    write_tables(&memory, Protocol::Linux64)
        .and_then(|()| memory.write_slice(code, CODE_START))
        .and_then(|()| memory.write_obj(OLD, DATA))
        .map_err(|error| format!("the probe guest's memory could not be written: {error}"))?;
    Ok(memory)
}

/// The one vCPU, in the state of Linux's first instruction but for the exchange's operands.
fn enter(kvm: &Kvm, vm: &Vm) -> Result<Vcpu, Box<dyn std::error::Error>> {
    let one = VcpuCount::new(1)?;
    let vcpu = vm
        .create_vcpus(one)?
        .pop()
        .ok_or("KVM made no vCPU for the probe guest")?;
    let start = Start {
        entry: CODE_START,
        protocol: Protocol::Linux64,
    };
    let cores = Cores {
        vcpus: one,
        smt: false,
    };
    let supported = kvm.supported_cpuid()?;
    Processors::new(supported, kvm.capabilities(), cores, &CpuFeatures::Host)?
        .configure(&vcpu, &start)?;
    let mut regs = vcpu.regs()?;
    regs.rsi = DATA.raw_value();
    [regs.rax, regs.rdx] = OLD;
    [regs.rbx, regs.rcx] = NEW;
    vcpu.set_regs(&regs)?;
    Ok(vcpu)
}

fn judge(exit: &Exit<'_>, memory: &GuestMemory) -> Probe {
    let emulated = |why: String| Probe::Emulated { why };
    match exit {
        Exit::PortWrite { port, data, .. } if *port == u16::from(ANSWER_PORT) => {
            judge_answer(data, memory)
        }
        Exit::End(GuestEnd::InternalError(suberror)) => {
            emulated(format!("KVM_EXIT_INTERNAL_ERROR, suberror {suberror}"))
        }
        Exit::End(GuestEnd::TripleFault) => emulated("KVM_EXIT_SHUTDOWN".to_owned()),
        Exit::End(end) => unknown(format!("the probe guest did not run: {end}")),
        other => unknown(format!(
            "the probe guest did what its code does not say: {other:?}"
        )),
    }
}

/// The exchange counts only when the guest saw it succeed and the new value stands in memory.
fn judge_answer(answer: &[u8], memory: &GuestMemory) -> Probe {
    match memory.read_obj::<[u64; 2]>(DATA) {
        Ok(NEW) if answer == [1] => Probe::Native,
        Ok([low, high]) => Probe::Emulated {
            why: format!("it answered {answer:?} and left {high:#018x}, {low:#018x}"),
        },
        Err(error) => unknown(format!(
            "the probe guest's memory could not be read: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kvm() -> Option<Kvm> {
        Kvm::open()
            .inspect_err(|error| eprintln!("SKIPPED: {error}"))
            .ok()
    }

    #[test]
    fn the_probe_has_an_answer_wherever_kvm_opens() {
        let Some(kvm) = kvm() else { return };
        let probe = run(kvm, TIME_LIMIT);
        assert!(!matches!(probe, Probe::Unknown { .. }), "{probe:?}");
    }

    #[test]
    fn the_guest_itself_is_sound_on_any_kvm() {
        // mov rax, NEW.low; mov [rsi], rax; mov rax, NEW.high; mov [rsi + 8], rax; mov al, 1; out; hlt
        const MOVES: [u8; 32] = [
            0x48,
            0xb8,
            0x23,
            0x01,
            0xff,
            0xff,
            0xee,
            0xee,
            0xdd,
            0xdd,
            0x48,
            0x89,
            0x06,
            0x48,
            0xb8,
            0xcc,
            0xcc,
            0xbb,
            0xbb,
            0xaa,
            0xaa,
            0x99,
            0x99,
            0x48,
            0x89,
            0x46,
            0x08,
            0xb0,
            0x01,
            0xe6,
            ANSWER_PORT,
            0xf4,
        ];
        let Some(kvm) = kvm() else { return };
        assert_eq!(run_code(kvm, &MOVES, TIME_LIMIT), Probe::Native);
    }

    #[test]
    fn an_exchange_that_did_not_happen_is_not_native() {
        // mov al, 1; out; hlt: says yes, and exchanged nothing
        const LIE: [u8; 5] = [0xb0, 0x01, 0xe6, ANSWER_PORT, 0xf4];
        let Some(kvm) = kvm() else { return };
        let probe = run_code(kvm, &LIE, TIME_LIMIT);
        assert!(matches!(probe, Probe::Emulated { .. }), "{probe:?}");
    }

    /// `jmp` to itself.
    const SPIN: [u8; 2] = [0xeb, 0xfe];

    #[test]
    fn a_guest_that_never_ends_is_called_back_at_the_limit() {
        let Some(kvm) = kvm() else { return };
        assert_eq!(
            run_code(kvm, &SPIN, Duration::from_millis(100)),
            unknown("the probe guest did not end within 100 ms")
        );
    }

    #[test]
    fn a_limit_that_passes_before_the_guest_exists_is_harmless() {
        let Some(kvm) = kvm() else { return };
        assert_eq!(
            run_code(kvm, &SPIN, Duration::ZERO),
            unknown("the probe guest did not end within 0 ms")
        );
    }
}

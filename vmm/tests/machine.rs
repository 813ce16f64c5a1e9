//! Machines with guests of a few instructions, on any KVM: entering by both protocols, buses, pausing,
//! every way to end.
#![expect(clippy::unwrap_used, reason = "a test's own fixtures")]

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use devices::bus::{Bus, BusDevice, Range};
use devices::host::EndSignal;
use devices::legacy::i8042::{self, I8042};
use libtest_mimic::{Arguments, Failed, Trial};
use vmm::arch::x86_64::VcpuCount;
use vmm::boot::{BootProtocol, CommandLine, ImageFile, Source};
use vmm::end::{EndReporter, Ends, GuestEnd, ends};
use vmm::kvm::{Kvm, KvmError};
use vmm::machine::{Buses, Chassis, ChassisPlan, Guest};
use vmm::memory::{HugePages, MemorySize};
use vmm::spec::{CpuFeatures, KvmCapability};
use vmm_sys_util::eventfd::EventFd;

type Outcome = Result<(), Failed>;
type Test = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = Kvm::open().err();
    if let Some(error) = &missing {
        eprintln!("skipped: {error}");
    }
    let tests: [Test; 11] = [
        ("a_64_bit_guest_writes_a_port_and_resets", writes_by_linux64),
        ("a_pvh_guest_writes_a_port_and_resets", writes_by_pvh),
        ("a_string_write_arrives_access_by_access", string_write),
        ("registers_in_memory_are_read_and_written", memory_registers),
        ("an_unhandled_fault_ends_in_a_triple_fault", triple_fault),
        (
            "a_spinning_guest_pauses_resumes_and_stops",
            pause_and_resume,
        ),
        ("a_guest_that_ended_does_not_run_again", no_run_after_end),
        ("the_largest_machine_starts_and_stops", largest_machine),
        ("a_processor_template_reaches_every_vcpu", template),
        (
            "a_template_for_a_leaf_or_register_that_is_not_there_is_refused",
            template_of_nothing,
        ),
        (
            "a_capability_of_kvm_that_is_wanted_is_checked",
            wanted_capability,
        ),
    ];
    let trials = tests
        .into_iter()
        .map(|(name, test)| Trial::test(name, test).with_ignored_flag(missing.is_some()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Where the guests' code lies.
const CODE: u32 = 0x10_0000;
/// A port that no device of a PC has.
const PORT: u16 = 0x5a0;
const REGISTERS: u64 = 0xd000_0000;

/// `mov al, 0xfe; out 0x64, al; hlt; jmp` to the hlt: the same bytes in 32-bit and 64-bit mode.
const RESET: [u8; 7] = [0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];
/// `jmp` to itself.
const SPIN: [u8; 2] = [0xeb, 0xfe];
/// `mov dx, PORT`.
const SET_DX: [u8; 4] = [0x66, 0xba, 0xa0, 0x05];

/// An ELF kernel of one segment that holds `code`, with a PVH note.
fn kernel(code: &[u8]) -> ImageFile {
    let mut note = Vec::new();
    for field in [4_u32, 4, 18] {
        note.extend(field.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(CODE.to_le_bytes());
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(16, 0);
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for field in [u64::from(CODE), 64, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend([0; 4]);
    for field in [64_u16, 56, 2, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    for (kind, offset, address, size) in [
        (1_u32, 0x1000_u64, u64::from(CODE), code.len()),
        (4, 0x200, 0, note.len()),
    ] {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(5_u32.to_le_bytes());
        let size = size as u64;
        for field in [offset, address, address, size, size, 4] {
            bytes.extend(field.to_le_bytes());
        }
    }
    bytes.resize(0x200, 0);
    bytes.extend(note);
    bytes.resize(0x1000, 0);
    bytes.extend(code);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    ImageFile::from_file(Path::new("stub"), file).unwrap()
}

/// A device that tells every write, and reads as its offset plus 0x40.
struct Witness(Sender<(u64, Vec<u8>)>);

impl BusDevice for Witness {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(u8::try_from(offset).unwrap() + 0x40);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.0.send((offset, data.to_vec())).unwrap();
    }
}

struct Bench {
    guest: Guest,
    ends: Ends,
    reporter: EndReporter,
    writes: Receiver<(u64, Vec<u8>)>,
}

fn buses(reporter: &EndReporter) -> (Buses, Receiver<(u64, Vec<u8>)>) {
    let (ports, memory) = (Bus::new(), Bus::new());
    let reset = reporter.clone();
    let line = EndSignal::new(move |_| reset.report(GuestEnd::Reset));
    ports
        .insert(
            i8042::PORTS,
            Arc::new(Mutex::new(I8042::new(line, EventFd::new(0).unwrap()))),
        )
        .unwrap();
    let (sender, writes) = channel();
    let witness = Arc::new(Mutex::new(Witness(sender)));
    let range = |base| Range { base, len: 16 };
    ports
        .insert(range(u64::from(PORT)), witness.clone())
        .unwrap();
    memory.insert(range(REGISTERS), witness).unwrap();
    let buses = Buses {
        ports: Arc::new(ports),
        memory: Arc::new(memory),
    };
    (buses, writes)
}

fn bench(code: &[u8], protocol: BootProtocol, vcpus: u64) -> Result<Bench, Failed> {
    let plan = ChassisPlan {
        memory: MemorySize::on_this_host(32)?,
        huge_pages: HugePages::HostDefault,
        vcpus: VcpuCount::new(vcpus)?,
        vcpu_name: "vcpu",
        smt: false,
        features: CpuFeatures::Host,
        track_dirty_pages: false,
        interval_timer: false,
    };
    bench_of(code, protocol, &plan)
}

fn bench_of(code: &[u8], protocol: BootProtocol, plan: &ChassisPlan) -> Result<Bench, Failed> {
    let (reporter, ends) = ends()?;
    let (buses, writes) = buses(&reporter);
    let source = Source {
        kernel: kernel(code),
        initrd: None,
        command_line: CommandLine::default(),
        protocol,
    };
    let guest = Chassis::build(&Kvm::open()?, plan)?.assemble(
        &buses,
        &reporter,
        source,
        &[],
        &vmm::sandbox::Confinement::default(),
        || {},
    )?;
    Ok(Bench {
        guest,
        ends,
        reporter,
        writes,
    })
}

fn expect<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(format!("found {found:?}, expected {expected:?}").into())
}

fn writes_by(protocol: BootProtocol) -> Outcome {
    // mov al, 'A'; out dx, al
    let code = [&SET_DX[..], &[0xb0, b'A', 0xee], &RESET].concat();
    let bench = bench(&code, protocol, 1)?;
    bench.guest.resume()?;
    expect(&bench.ends.wait(), &Some(GuestEnd::Reset))?;
    expect(&bench.writes.try_recv()?, &(0, vec![b'A']))
}

fn writes_by_linux64() -> Outcome {
    writes_by(BootProtocol::Linux64)
}

fn writes_by_pvh() -> Outcome {
    writes_by(BootProtocol::Pvh)
}

fn string_write() -> Outcome {
    // mov esi, CODE; mov ecx, 3; cld; rep outsb, of the code's own first bytes
    let code = [
        &SET_DX[..],
        &[0xbe, 0, 0, 0x10, 0, 0xb9, 3, 0, 0, 0, 0xfc, 0xf3, 0x6e],
        &RESET,
    ]
    .concat();
    let bench = bench(&code, BootProtocol::Linux64, 1)?;
    bench.guest.resume()?;
    expect(&bench.ends.wait(), &Some(GuestEnd::Reset))?;
    let writes: Vec<_> = bench.writes.try_iter().collect();
    let expected: Vec<_> = SET_DX[..3].iter().map(|byte| (0, vec![*byte])).collect();
    expect(&writes, &expected)
}

fn memory_registers() -> Outcome {
    // mov eax, [REGISTERS + 2]; mov [REGISTERS + 4], eax, without paging
    let code = [&[0xa1, 2, 0, 0, 0xd0, 0xa3, 4, 0, 0, 0xd0][..], &RESET].concat();
    let bench = bench(&code, BootProtocol::Pvh, 1)?;
    bench.guest.resume()?;
    expect(&bench.ends.wait(), &Some(GuestEnd::Reset))?;
    expect(&bench.writes.try_recv()?, &(4, vec![0x42; 4]))
}

fn triple_fault() -> Outcome {
    // ud2, with an interrupt table that has no gate for it
    let bench = bench(&[0x0f, 0x0b], BootProtocol::Linux64, 1)?;
    bench.guest.resume()?;
    expect(&bench.ends.wait(), &Some(GuestEnd::TripleFault))
}

fn pause_and_resume() -> Outcome {
    const ROUNDS: usize = 200;
    let bench = bench(&SPIN, BootProtocol::Linux64, 2)?;
    for _ in 0..ROUNDS {
        bench.guest.resume()?;
        let vcpus = bench.guest.vcpus();
        let running = vcpus[0].ask(|vcpu| vcpu.regs().map(|regs| regs.rip))??;
        expect(&running, &u64::from(CODE))?;
        bench.guest.pause()?;
        let paused = vcpus[1].ask(|vcpu| vcpu.index())?;
        expect(&paused, &1)?;
    }
    bench.guest.resume()?;
    expect(&bench.ends.take(), &None)
}

fn no_run_after_end() -> Outcome {
    let code = [&SET_DX[..], &[0xee], &SPIN].concat();
    let bench = bench(&code, BootProtocol::Linux64, 1)?;
    bench.reporter.report(GuestEnd::PowerOff);
    bench.guest.resume()?;
    bench.guest.pause()?;
    expect(&bench.writes.try_iter().count(), &0)
}

fn largest_machine() -> Outcome {
    let bench = bench(&SPIN, BootProtocol::Linux64, u64::from(VcpuCount::MAX))?;
    bench.guest.resume()?;
    bench.guest.pause()?;
    expect(&bench.guest.vcpus().len(), &usize::from(VcpuCount::MAX))
}

fn custom(template: serde_json::Value) -> Result<ChassisPlan, Failed> {
    Ok(ChassisPlan {
        memory: MemorySize::on_this_host(32)?,
        huge_pages: HugePages::HostDefault,
        vcpus: VcpuCount::new(2)?,
        vcpu_name: "vcpu",
        smt: true,
        features: CpuFeatures::Custom(serde_json::from_value(template)?),
        track_dirty_pages: true,
        interval_timer: false,
    })
}

/// `IA32_SYSENTER_EIP`, which every KVM has and no boot protocol sets.
const SYSENTER_EIP: u32 = 0x176;

fn template() -> Outcome {
    let plan = custom(serde_json::json!({
        "cpuid_modifiers": [
            // The stepping, and a bit that this machine sets itself.
            { "leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [
                { "register": "eax", "bitmap": "0b0110" },
                { "register": "ebx", "bitmap": "0b11111111xxxxxxxxxxxxxxxxxxxxxxxx" },
            ] },
        ],
        "msr_modifiers": [{ "addr": format!("{SYSENTER_EIP:#x}"), "bitmap": "0b1010" }],
    }))?;
    let bench = bench_of(&SPIN, BootProtocol::Linux64, &plan)?;
    for (vcpu, index) in bench.guest.vcpus().iter().zip(0_u32..) {
        let (cpuid, msr) = vcpu.ask(|vcpu| (vcpu.cpuid(), vcpu.msr(SYSENTER_EIP)))?;
        let cpuid = cpuid?;
        let leaf = |function, index| {
            let mut leaves = cpuid.as_slice().iter();
            leaves.find(|leaf| (leaf.function, leaf.index) == (function, index))
        };
        let features = leaf(1, 0).ok_or("no leaf 1")?;
        expect(&(features.eax & 0xf), &6)?;
        expect(&(features.ebx >> 24), &index)?;
        expect(&msr?, &Some(0b1010))?;
        if let Some(threads) = leaf(0xb, 0) {
            expect(&(threads.eax, threads.ebx, threads.edx), &(1, 2, index))?;
        }
    }
    Ok(())
}

fn template_of_nothing() -> Outcome {
    let refusal = |template| -> Result<String, Failed> {
        match bench_of(&SPIN, BootProtocol::Linux64, &custom(template)?) {
            Ok(_) => Err("the machine was built".into()),
            Err(error) => Ok(format!("{error:?}")),
        }
    };
    let no_leaf = serde_json::json!({ "cpuid_modifiers": [
        { "leaf": "0x12345", "subleaf": "0x0", "flags": 0, "modifiers": [] },
    ] });
    let no_msr = serde_json::json!({ "msr_modifiers": [{ "addr": "0x12345", "bitmap": "1" }] });
    for (template, word) in [
        (no_leaf, "the leaf 0x12345"),
        (no_msr, "the register 0x12345"),
    ] {
        let said = refusal(template)?;
        if !said.contains(word) {
            return Err(said.into());
        }
    }
    Ok(())
}

fn wanted_capability() -> Outcome {
    Kvm::open_with(&[KvmCapability::NotRequired(0), KvmCapability::Required(3)])?;
    let error = Kvm::open_with(&[KvmCapability::Required(0xffff_fff0)]).err();
    expect(
        &matches!(error, Some(KvmError::LacksWanted(0xffff_fff0))),
        &true,
    )
}

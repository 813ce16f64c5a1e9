//! The least program that runs the payload under KVM: the floor under a monitor's start and end times.
//!
//! `floor ELF linux|pvh COMMAND_LINE`: 128 MiB, one vCPU, the in-kernel interrupt controllers, no devices.
//! Exit status: 0 after a reset, 3 after a triple fault, 1 after anything else.

#![expect(
    unsafe_code,
    reason = "guest memory is mapped and handed to KVM by address"
)]

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::{env, fs, io, ptr};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

const MEMORY: usize = 128 << 20;
const START_INFO: usize = 0x6000;
const BOOT_PARAMS: usize = 0x7000;
const TABLES: usize = 0x9000;
const COMMAND_LINE: usize = 0x20000;
const CPUID_ENTRIES: usize = 80;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, image, protocol, command_line] = arguments.as_slice() else {
        return Err("usage: floor ELF linux|pvh COMMAND_LINE".into());
    };
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    let mut memory = Memory::new()?;
    // The slot before the interrupt controllers: after them it would wait for a grace period.
    memory.register(&vm)?;
    vm.set_tss_address(0xfffb_d000)?;
    vm.set_identity_map_address(0xfffb_c000)?;
    vm.create_irq_chip()?;
    let vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(CPUID_ENTRIES)?)?;
    let entry = load(&mut memory, &fs::read(image)?)?;
    memory.write(COMMAND_LINE, command_line.as_bytes())?;
    let command_line = u64::try_from(COMMAND_LINE)?.to_le_bytes();
    memory.write(START_INFO + 24, &command_line)?;
    memory.write(BOOT_PARAMS + 0x228, &command_line[..4])?;
    match protocol.as_str() {
        "linux" => enter_linux(&vcpu, &mut memory, entry.linux)?,
        _ => enter_pvh(&vcpu, entry.pvh)?,
    }
    run(vcpu)
}

/// Where the image is entered.
struct Entry {
    linux: u64,
    pvh: u64,
}

/// Copies the ELF segments into guest memory and finds both entries; the image is one of ours.
fn load(memory: &mut Memory, image: &[u8]) -> Result<Entry, Box<dyn Error>> {
    let mut entry = Entry {
        linux: word(image, 24, 8)?,
        pvh: 0,
    };
    let headers = usize::try_from(word(image, 32, 8)?)?;
    for number in 0..usize::try_from(word(image, 56, 2)?)? {
        let header = headers + 56 * number;
        let offset = usize::try_from(word(image, header + 8, 8)?)?;
        let len = usize::try_from(word(image, header + 32, 8)?)?;
        match word(image, header, 4)? {
            1 => {
                let address = usize::try_from(word(image, header + 24, 8)?)?;
                memory.write(address, image.get(offset..offset + len).ok_or("cut short")?)?;
            }
            4 => entry.pvh = word(image, offset + 16, 8)?,
            _ => {}
        }
    }
    Ok(entry)
}

fn word(image: &[u8], at: usize, len: usize) -> Result<u64, Box<dyn Error>> {
    let bytes = image.get(at..at + len).ok_or("the ELF file is cut short")?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Linux's 64-bit protocol: long mode, the first 4 MiB mapped, rsi at `boot_params`.
fn enter_linux(vcpu: &VcpuFd, memory: &mut Memory, entry: u64) -> Result<(), Box<dyn Error>> {
    let tables = u64::try_from(TABLES)?;
    for (place, value) in [
        (TABLES, tables + 0x1003),
        (TABLES + 0x1000, tables + 0x2003),
        (TABLES + 0x2000, 0x83),
        (TABLES + 0x2008, 0x20_0083),
    ] {
        memory.write(place, &value.to_le_bytes())?;
    }
    let mut system = segments(vcpu.get_sregs()?, 0x10, true);
    (system.cr0, system.cr3, system.cr4, system.efer) = (0x8000_0001, tables, 0x20, 0x500);
    vcpu.set_sregs(&system)?;
    let rsi = u64::try_from(BOOT_PARAMS)?;
    Ok(vcpu.set_regs(&kvm_regs {
        rip: entry,
        rsi,
        rflags: 2,
        ..Default::default()
    })?)
}

/// PVH: protected mode without paging, ebx at `start_info`.
fn enter_pvh(vcpu: &VcpuFd, entry: u64) -> Result<(), Box<dyn Error>> {
    let mut system = segments(vcpu.get_sregs()?, 0x8, false);
    (system.cr0, system.cr4, system.efer) = (1, 0, 0);
    vcpu.set_sregs(&system)?;
    let rbx = u64::try_from(START_INFO)?;
    Ok(vcpu.set_regs(&kvm_regs {
        rip: entry,
        rbx,
        rflags: 2,
        ..Default::default()
    })?)
}

/// Flat segments: code at selector `code`, data behind it.
fn segments(mut system: kvm_sregs, code: u16, long: bool) -> kvm_sregs {
    let flat = kvm_segment {
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let (l, db) = (u8::from(long), u8::from(!long));
    system.cs = kvm_segment {
        selector: code,
        type_: 11,
        l,
        db,
        ..flat
    };
    let data = kvm_segment {
        selector: code + 8,
        type_: 3,
        db: 1,
        ..flat
    };
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
    let limit = 0x67;
    system.tr = kvm_segment {
        limit,
        selector: 0x20,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    system
}

/// Serves the serial line until the guest ends.
fn run(mut vcpu: VcpuFd) -> Result<ExitCode, Box<dyn Error>> {
    let mut output = io::stdout();
    loop {
        match vcpu.run()? {
            VcpuExit::IoOut(0x3f8, bytes) => {
                output.write_all(bytes)?;
                output.flush()?;
            }
            VcpuExit::IoOut(0x64, [0xfe]) => return Ok(ExitCode::SUCCESS),
            VcpuExit::IoIn(_, bytes) | VcpuExit::MmioRead(_, bytes) => bytes.fill(0xff),
            VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..) | VcpuExit::Intr => {}
            VcpuExit::Shutdown => return Ok(ExitCode::from(3)),
            other => return Err(format!("unexpected exit: {other:?}").into()),
        }
    }
}

/// The guest's memory.
struct Memory(*mut u8);

impl Memory {
    fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                MEMORY,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self(start.cast()))
        }
    }

    fn register(&self, vm: &VmFd) -> Result<(), Box<dyn Error>> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: u64::try_from(MEMORY)?,
            userspace_addr: self.0 as u64,
        };
        // SAFETY: the mapping has this size and lives as long as the process.
        unsafe { vm.set_user_memory_region(region)? };
        Ok(())
    }

    fn write(&mut self, address: usize, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        let end = address
            .checked_add(bytes.len())
            .filter(|end| *end <= MEMORY);
        end.ok_or("outside guest memory")?;
        // SAFETY: the range lies inside the mapping, and the guest does not run yet.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.wrapping_add(address), bytes.len())
        };
        Ok(())
    }
}

//! The payload's entry: from the monitor's boot protocol to the command line that the library acts on.

#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "the entry is assembly, and its structures are found by address"
)]

mod bytes;

use payload::cmdline::CommandLine;
use payload::line;
use payload::memory::{Arena, Region};

core::arch::global_asm!(include_str!("entry.s"));

/// `cmd_line_ptr` of `boot_params` (Linux x86 boot protocol, 0x228).
const LINUX_COMMAND_LINE: usize = 0x228;
/// `cmdline_paddr` of `hvm_start_info` (Xen, arch-x86/hvm/start_info.h).
const PVH_COMMAND_LINE: usize = 24;
/// The longest command line that is read.
const LONGEST: usize = 4096;

// SAFETY: the linker script defines it; only its address is taken.
unsafe extern "C" {
    /// The image's end, from the linker script.
    static payload_end: u8;
}

/// Called by `entry.s` with the boot protocol's structure, 0 for Linux or 1 for PVH, and the privilege level.
#[unsafe(no_mangle)]
extern "C" fn payload_main(parameters: u32, protocol: u32, level: u32) -> ! {
    let parameters = Region::at(parameters as usize, 0x1000);
    let (name, pointer) = match protocol {
        0 => ("linux", parameters.read32(LINUX_COMMAND_LINE)),
        _ => ("pvh", parameters.read32(PVH_COMMAND_LINE)),
    };
    line!(" payload entry {name} level {level}");
    let image_end = &raw const payload_end as usize;
    payload::run(CommandLine(text(pointer)), &mut Arena::new(image_end))
}

/// The text that ends with a zero byte at `address`; without any, an empty one.
fn text(address: u32) -> &'static str {
    let region = Region::at(address as usize, LONGEST);
    let len = (0..LONGEST)
        .take_while(|at| address != 0 && region.read8(*at) != 0)
        .count();
    // SAFETY: the bytes lie in mapped memory that neither this program nor a device writes.
    let bytes = unsafe { core::slice::from_raw_parts(address.max(1) as *const u8, len) };
    str::from_utf8(bytes).unwrap_or("")
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    line!("error: {information}");
    payload::port::reset()
}

//! Guests of a few instructions, as ELF kernels for Linux's 64-bit boot protocol.
//!
//! They run at privilege level 0 with port I/O and plain moves only, which every KVM can do.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Where a guest's code lies.
const CODE: u64 = 0x10_0000;
const COM1: u16 = 0x3f8;
const COM1_STATUS: u16 = 0x3fd;
const SLEEP_CONTROL: u16 = 0x600;
const EVENTS: u16 = 0x602;
const EXIT_STATUS: u16 = 0x603;
/// `cli; hlt; jmp` to the hlt.
const HALT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];

/// The code of a guest, put together instruction by instruction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest(Vec<u8>);

impl Guest {
    fn code(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// `mov dx, port`
    fn port(self, port: u16) -> Self {
        self.code(&[0x66, 0xba]).code(&port.to_le_bytes())
    }

    /// `mov dx, port; mov al, value; out dx, al`
    fn out(self, port: u16, value: u8) -> Self {
        self.port(port).code(&[0xb0, value, 0xee])
    }

    /// Says `text` on the serial port.
    pub(crate) fn say(self, text: &str) -> Self {
        let guest = self.port(COM1);
        text.bytes()
            .fold(guest, |guest, byte| guest.code(&[0xb0, byte, 0xee]))
    }

    /// Says `count` times `x`.
    pub(crate) fn say_x(self, count: u32) -> Self {
        // mov ecx, count; mov al, 'x'; out dx, al; dec ecx; jnz to the out
        self.port(COM1)
            .code(&[0xb9])
            .code(&count.to_le_bytes())
            .code(&[0xb0, b'x', 0xee, 0xff, 0xc9, 0x75, 0xfb])
    }

    /// Says `x` for ever.
    pub(crate) fn flood(self) -> Self {
        self.port(COM1).code(&[0xb0, b'x', 0xee, 0xeb, 0xfd])
    }

    /// Gives back what it is told, up to and with `last`.
    pub(crate) fn echo_until(self, last: u8) -> Self {
        // in al, dx; test al, 1; jz to the start
        let wait = Self::default()
            .port(COM1_STATUS)
            .code(&[0xec, 0xa8, 1, 0x74, 0xf7]);
        // in al, dx; out dx, al; cmp al, last; jne to the start
        let answer = Self::default()
            .port(COM1)
            .code(&[0xec, 0xee, 0x3c, last, 0x75, 0xed]);
        self.code(&wait.0).code(&answer.0)
    }

    /// Waits until the power button was pressed.
    pub(crate) fn wait_for_button(self) -> Self {
        // in al, dx; test al, 1; jz to the in
        self.port(EVENTS).code(&[0xec, 0xa8, 1, 0x74, 0xfb])
    }

    /// Leaves an exit status.
    pub(crate) fn leave_status(self, status: u8) -> Self {
        self.out(EXIT_STATUS, status)
    }

    /// Switches the machine off.
    pub(crate) fn power_off(self) -> Self {
        self.out(SLEEP_CONTROL, 5 << 2 | 1 << 5).code(&HALT)
    }

    /// Resets the machine through the keyboard controller.
    pub(crate) fn reset(self) -> Self {
        self.out(0x64, 0xfe).code(&HALT)
    }

    /// Does as Linux does before a reset that follows a panic: 0x1234 at 0x472.
    pub(crate) fn mark_panic(self) -> Self {
        self.code(&[0x66, 0xc7, 0x04, 0x25, 0x72, 0x04, 0, 0, 0x34, 0x12])
    }

    /// An invalid opcode without a handler: a triple fault.
    pub(crate) fn crash(self) -> Self {
        self.code(&[0x0f, 0x0b])
    }

    /// Does nothing, for ever.
    pub(crate) fn halt(self) -> Self {
        self.code(&HALT)
    }

    /// The guest as a kernel file.
    pub(crate) fn kernel(&self) -> Kernel {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kernel");
        fs::write(&path, self.elf()).unwrap();
        Kernel {
            path,
            _directory: directory,
        }
    }

    /// An ELF of one segment.
    pub(crate) fn elf(&self) -> Vec<u8> {
        const OFFSET: u64 = 0x1000;
        let size = u64::try_from(self.0.len()).unwrap();
        let mut elf = header(2, 0x3e);
        // PT_LOAD, readable and executable.
        elf.extend(1_u32.to_le_bytes());
        elf.extend(5_u32.to_le_bytes());
        for field in [OFFSET, CODE, CODE, size, size, 0x1000] {
            elf.extend(field.to_le_bytes());
        }
        elf.resize(usize::try_from(OFFSET).unwrap(), 0);
        elf.extend(&self.0);
        elf
    }
}

/// An ELF executable's header: `class` 1 has 32 bits and 2 has 64, `machine` is the processor's number.
pub(crate) fn header(class: u8, machine: u16) -> Vec<u8> {
    let mut elf = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
    elf.resize(16, 0);
    elf.extend(2_u16.to_le_bytes());
    elf.extend(machine.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    // Entry, program headers right behind this header, no sections, no flags.
    for field in [CODE, 64, 0] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for field in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(field.to_le_bytes());
    }
    elf
}

/// A kernel file that vanishes with the value.
#[derive(Debug)]
pub(crate) struct Kernel {
    path: PathBuf,
    _directory: TempDir,
}

impl Kernel {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

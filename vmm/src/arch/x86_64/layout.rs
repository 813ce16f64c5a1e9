//! Where everything lies in a guest.
//!
//! | guest physical | what |
//! | --- | --- |
//! | `0x472` | [`WARM_RESET_FLAG`], in the BIOS data area |
//! | `0x500` | [`GDT`], 48 bytes |
//! | `0x540` | IDT, empty: the kernel brings its own |
//! | `0x6000` | [`PVH_START_INFO`], then its module list and memory map |
//! | `0x7000` | [`ZERO_PAGE`] (Linux boot parameters) |
//! | below `0x8ff0` | [`BOOT_STACK`] |
//! | `0x9000` `0xa000` `0xb000` | [`PML4`], [`PDPT`], [`PAGE_DIRECTORY`] |
//! | `0x20000` | [`COMMAND_LINE`] |
//! | `0x9fc00` .. `0xa0000` | extended BIOS data area: [`MP_TABLE`] |
//! | `0xe0000` .. `0x100000` | [`ACPI_TABLES`], the RSDP first |
//! | `0x10_0000` .. 3 GiB | kernel and the rest of low memory |
//! | `0xc000_0000`, `0xd000_0000` | [`BOOT_TIMERS`], when there is one |
//! | `0xc000_1000` + n * `0x1000` | virtio-mmio slot n |
//! | `0xfec0_0000`, `0xfee0_0000` | I/O APIC, local APIC |
//! | `0xfffb_c000`, `0xfffb_d000` | pages KVM needs on Intel: identity map, task state |
//! | from 4 GiB | high memory |
//!
//! | port | what |
//! | --- | --- |
//! | `0x60` .. `0x64` | keyboard controller, GSI 1; the reset pulse is `0xfe` to `0x64` |
//! | `0x70`, `0x71` | CMOS clock |
//! | `0x3f8` .. `0x3ff` | serial port, GSI 4 |
//! | `0x600` .. `0x603` | power block: sleep control, sleep status, event bits, exit status |

use vm_memory::GuestAddress;

/// End of low memory, exclusive.
pub const LOW_MEMORY_END: GuestAddress = GuestAddress(0xc000_0000);
/// Start of high memory.
pub const HIGH_MEMORY_START: GuestAddress = GuestAddress(0x1_0000_0000);

/// Global descriptor table.
pub const GDT: GuestAddress = GuestAddress(0x500);
/// Interrupt descriptor table.
pub const IDT: GuestAddress = GuestAddress(0x540);
/// The BIOS data area's warm reset flag, a 16-bit word.
pub const WARM_RESET_FLAG: GuestAddress = GuestAddress(0x472);
/// What [`WARM_RESET_FLAG`] holds after `reboot=warm`.
pub const WARM_RESET_MAGIC: u16 = 0x1234;
/// PVH `hvm_start_info`.
pub const PVH_START_INFO: GuestAddress = GuestAddress(0x6000);
/// PVH module list.
pub const PVH_MODULES: GuestAddress = GuestAddress(0x6040);
/// PVH memory map.
pub const PVH_MEMORY_MAP: GuestAddress = GuestAddress(0x6080);
/// Linux `boot_params`.
pub const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
/// First stack pointer; the stack grows down from here.
pub const BOOT_STACK: GuestAddress = GuestAddress(0x8ff0);
/// Top page table.
pub const PML4: GuestAddress = GuestAddress(0x9000);
/// Second page table.
pub const PDPT: GuestAddress = GuestAddress(0xa000);
/// Page directory: 2 MiB pages.
pub const PAGE_DIRECTORY: GuestAddress = GuestAddress(0xb000);
/// End of what the boot page tables map, exclusive.
pub const BOOT_MAPPED_END: GuestAddress = GuestAddress(1 << 30);
/// Kernel command line.
pub const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
/// Most bytes of a kernel command line, its terminating zero included (x86 `COMMAND_LINE_SIZE`).
pub const COMMAND_LINE_SIZE: usize = 2048;
/// Extended BIOS data area: end of usable conventional memory.
pub const EBDA: GuestAddress = GuestAddress(0x9_fc00);
/// MP floating pointer and configuration table.
pub const MP_TABLE: GuestAddress = EBDA;
/// Most bytes of the MP table.
pub const MP_TABLE_SIZE: usize = 0x400;
/// ACPI tables, the RSDP first.
pub const ACPI_TABLES: GuestAddress = GuestAddress(0xe_0000);
/// Most bytes of all ACPI tables.
pub const ACPI_TABLES_SIZE: usize = 0x2_0000;
/// Start of memory above the legacy hole; nothing of a kernel lies below.
pub const KERNEL_START: GuestAddress = GuestAddress(0x10_0000);

/// Where the boot timer's register is. Firecracker has moved it: the inits of older guests know the second
/// address.
pub const BOOT_TIMERS: [u64; 2] = [LOW_MEMORY_END.0, 0xd000_0000];
/// First virtio-mmio slot.
pub const MMIO_SLOTS: GuestAddress = GuestAddress(LOW_MEMORY_END.0 + 0x1000);
/// Bytes of one virtio-mmio slot.
pub const MMIO_SLOT_SIZE: u64 = 0x1000;
/// I/O APIC registers.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Local APIC registers.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// One page for KVM's identity page table (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const KVM_IDENTITY_MAP: GuestAddress = GuestAddress(0xfffb_c000);
/// Three pages for KVM's task state segment (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS: GuestAddress = GuestAddress(0xfffb_d000);

/// First port of the serial port.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Interrupt of the keyboard.
pub const KEYBOARD_GSI: u32 = 1;
/// Interrupt of the serial port.
pub const SERIAL_GSI: u32 = 4;
/// Data port of the keyboard controller.
pub const KEYBOARD_DATA_PORT: u16 = 0x60;
/// Command and status port of the keyboard controller.
pub const KEYBOARD_COMMAND_PORT: u16 = 0x64;
/// The keyboard controller command that pulses the processor's reset line.
pub const KEYBOARD_RESET: u8 = 0xfe;
/// First of the two ports of the CMOS clock.
pub const CLOCK_PORT: u16 = 0x70;
/// First port of the power block: ACPI sleep control.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// ACPI sleep status.
pub const SLEEP_STATUS_PORT: u16 = 0x601;
/// Event bits of the generic event device; reading clears them.
pub const POWER_EVENT_PORT: u16 = 0x602;
/// Bit of [`POWER_EVENT_PORT`]: the power button was pressed.
pub const POWER_EVENT_BUTTON: u8 = 1;
/// A guest's init leaves its command's exit status here.
pub const EXIT_STATUS_PORT: u16 = 0x603;
/// ACPI sleep type of power-off (`\_S5`).
pub const SLEEP_TYPE_OFF: u8 = 5;
/// What the guest writes to [`SLEEP_CONTROL_PORT`] to power off: SLP_EN and the type
/// (ACPI 6.5 §4.8.3.7).
pub const SLEEP_CONTROL_OFF: u8 = (SLEEP_TYPE_OFF << 2) | (1 << 5);
/// Interrupt of the generic event device.
pub const EVENT_GSI: u32 = 9;
/// Interrupt lines of the I/O APIC.
pub const GSI_COUNT: u32 = 24;

/// Interrupts for virtio-mmio slots, in slot order: those of the first 24 that the timer (0, 2), the
/// keyboard (1), the second and first serial port (3, 4), the clock (8) and the event device (9) leave.
pub const MMIO_GSIS: [u32; 17] = [
    5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
];

//! ACPI tables (ACPI 6.5): what a stock kernel needs to find processors, interrupts and devices.
//!
//! | table | says |
//! | --- | --- |
//! | RSDP, XSDT | where the others are |
//! | FADT | hardware-reduced; reset register and sleep registers; what legacy hardware is missing |
//! | MADT | one local APIC per vCPU, one I/O APIC |
//! | DSDT | serial port, clock, keyboard, virtio-mmio slots, power button and its event device, `\_S5` |
//!
//! # Decisions
//! - **Hardware-reduced** (§4.1): no PM timer, no SCI, no fixed event registers to emulate. Linux then
//!   also leaves the legacy timer and interrupt controller alone, so the machine needs no i8254.
//! - **A keyboard and no mouse** (PNP0303, and the 8042 in the boot flags, §5.2.9.3): by it a guest hears
//!   Ctrl-Alt-Del, and Linux looks for no mouse. Resetting through the controller (`reboot=k`, and the reset
//!   register here) needs no driver.
//! - The CMOS clock is described (PNP0B00) without an interrupt: it has no alarm, and with one Linux would
//!   wait for updates that never come. Kernels with kvmclock do not ask it for the time.
//! - **No VGA**: Linux does not touch the text console's memory.
//! - The power button is a control method device (PNP0C0C) that a generic event device (ACPI0013,
//!   §5.6.9) notifies: with hardware-reduced ACPI there is no fixed power button.
//! - Every interrupt is edge-triggered and active-high, as an irqfd is.

use acpi_tables::aml::{
    self, And, Device, EISAName, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method, Name, Notify, ONE, OpRegion,
    OpRegionSpace, Package, Path, ResourceTemplate, Scope, Store,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use vm_memory::Address;

use super::MmioSlot;
use crate::arch::x86_64::VcpuCount;
use crate::arch::x86_64::layout;

const OEM: [u8; 6] = *b"RAVELN";
const OEM_TABLE: [u8; 8] = *b"RAVELVM ";
const OEM_REVISION: u32 = 1;
const TABLE_ALIGN: usize = 64;
const SDT_HEADER: u32 = 36;
const DSDT_REVISION: u8 = 6;

/// IA-PC boot architecture flags (§5.2.9.3).
const BOOT_8042: u16 = 1 << 1;
const BOOT_NO_VGA: u16 = 1 << 2;

/// Notification value: the power button was pressed (§5.6.6, device-specific).
const NOTIFY_BUTTON: u8 = 0x80;

/// All tables as they stand in guest memory from [`layout::ACPI_TABLES`] on, the RSDP first.
pub fn tables(vcpus: VcpuCount, slots: &[MmioSlot]) -> Vec<u8> {
    let mut blob = Blob(vec![0; Rsdp::len()]);
    let dsdt = blob.add(&dsdt(slots));
    let fadt = blob.add(&fadt(dsdt));
    let madt = blob.add(&madt(vcpus));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = blob.add(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    blob.0[..rsdp.len()].copy_from_slice(&rsdp);
    blob.0
}

/// Tables one after the other.
struct Blob(Vec<u8>);

impl Blob {
    /// Adds a table, and tells its guest physical address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(TABLE_ALIGN), 0);
        let at = layout::ACPI_TABLES.raw_value() + self.0.len() as u64;
        table.to_aml_bytes(&mut self.0);
        at
    }
}

fn byte_port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        .flag(Flags::HwReducedAcpi);
    fadt.iapc_boot_arch = (BOOT_8042 | BOOT_NO_VGA).into();
    fadt.reset_reg = byte_port(layout::KEYBOARD_COMMAND_PORT);
    fadt.reset_value = layout::KEYBOARD_RESET;
    fadt.sleep_control_reg = byte_port(layout::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = byte_port(layout::SLEEP_STATUS_PORT);
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"RAVELIN\0").into();
    fadt.finalize()
}

fn madt(vcpus: VcpuCount) -> impl Aml {
    let mut madt = MADT::new(
        OEM,
        OEM_TABLE,
        OEM_REVISION,
        LocalInterruptController::Address(layout::LOCAL_APIC),
    );
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    for index in 0..vcpus.get() {
        madt.add_structure(ProcessorLocalApic::new(
            index,
            index,
            EnabledStatus::Enabled,
        ));
    }
    madt
}

fn dsdt(slots: &[MmioSlot]) -> impl Aml {
    let mut devices = Code(Vec::new());
    add_serial_port(&mut devices);
    add_clock(&mut devices);
    add_keyboard(&mut devices);
    add_power_button(&mut devices);
    for (index, slot) in slots.iter().enumerate() {
        add_mmio_slot(&mut devices, index, slot);
    }
    let mut code = Vec::new();
    Scope::new(Path::new("\\_SB_"), vec![&devices]).to_aml_bytes(&mut code);
    Name::new(
        Path::new("\\_S5_"),
        &Package::new(vec![&layout::SLEEP_TYPE_OFF]),
    )
    .to_aml_bytes(&mut code);
    let mut dsdt = Sdt::new(
        *b"DSDT",
        SDT_HEADER,
        DSDT_REVISION,
        OEM,
        OEM_TABLE,
        OEM_REVISION,
    );
    dsdt.append_slice(&code);
    dsdt
}

/// AML that is encoded already.
struct Code(Vec<u8>);

impl Aml for Code {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

fn interrupt(gsi: u32) -> Interrupt {
    const CONSUMER: bool = true;
    const EDGE: bool = true;
    const ACTIVE_LOW: bool = false;
    const SHARED: bool = false;
    Interrupt::new(CONSUMER, EDGE, ACTIVE_LOW, SHARED, gsi)
}

fn add_serial_port(code: &mut Code) {
    const PORTS: u8 = 8;
    Device::new(
        Path::new("COM1"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0501")),
            &Name::new(Path::new("_UID"), &aml::ZERO),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![
                    &IO::new(layout::SERIAL_PORT, layout::SERIAL_PORT, 1, PORTS),
                    &interrupt(layout::SERIAL_GSI),
                ]),
            ),
        ],
    )
    .to_aml_bytes(&mut code.0);
}

fn add_clock(code: &mut Code) {
    const PORTS: u8 = 2;
    Device::new(
        Path::new("RTC_"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0B00")),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&IO::new(
                    layout::CLOCK_PORT,
                    layout::CLOCK_PORT,
                    1,
                    PORTS,
                )]),
            ),
        ],
    )
    .to_aml_bytes(&mut code.0);
}

/// The keyboard behind its controller. No mouse is described, and Linux looks for none then.
fn add_keyboard(code: &mut Code) {
    Device::new(
        Path::new("KBD_"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0303")),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![
                    &IO::new(layout::KEYBOARD_DATA_PORT, layout::KEYBOARD_DATA_PORT, 1, 1),
                    &IO::new(
                        layout::KEYBOARD_COMMAND_PORT,
                        layout::KEYBOARD_COMMAND_PORT,
                        1,
                        1,
                    ),
                    &interrupt(layout::KEYBOARD_GSI),
                ]),
            ),
        ],
    )
    .to_aml_bytes(&mut code.0);
}

/// The button, and the event device that reads the event bits (which clears them) and notifies it.
fn add_power_button(code: &mut Code) {
    let button = Path::new("\\_SB_.PWRB");
    Device::new(
        Path::new("PWRB"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0C0C")),
            &Name::new(Path::new("_UID"), &aml::ZERO),
        ],
    )
    .to_aml_bytes(&mut code.0);
    Device::new(
        Path::new("GED_"),
        vec![
            &Name::new(Path::new("_HID"), &"ACPI0013"),
            &Name::new(Path::new("_UID"), &aml::ZERO),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&interrupt(layout::EVENT_GSI)]),
            ),
            &OpRegion::new(
                Path::new("EVTR"),
                OpRegionSpace::SystemIO,
                &layout::POWER_EVENT_PORT,
                &ONE,
            ),
            &Field::new(
                Path::new("EVTR"),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                vec![FieldEntry::Named(*b"EVTB", 8)],
            ),
            &Method::new(
                Path::new("_EVT"),
                1,
                true,
                vec![
                    &Store::new(&Local(0), &Path::new("EVTB")),
                    &And::new(&Local(0), &Local(0), &layout::POWER_EVENT_BUTTON),
                    &If::new(&Local(0), vec![&Notify::new(&button, &NOTIFY_BUTTON)]),
                ],
            ),
        ],
    )
    .to_aml_bytes(&mut code.0);
}

/// A virtio-mmio slot: `LNRO0005` is the name Linux gave the transport; DMA is coherent (`_CCA`).
fn add_mmio_slot(code: &mut Code, index: usize, slot: &MmioSlot) {
    let address = u32::try_from(slot.address.raw_value()).expect("slots lie below 4 GiB");
    let size = u32::try_from(layout::MMIO_SLOT_SIZE).expect("a slot is one page");
    Device::new(
        Path::new(&format!("V{index:03X}")),
        vec![
            &Name::new(Path::new("_HID"), &"LNRO0005"),
            &Name::new(Path::new("_UID"), &index),
            &Name::new(Path::new("_CCA"), &ONE),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![
                    &Memory32Fixed::new(true, address, size),
                    &interrupt(slot.gsi),
                ]),
            ),
        ],
    )
    .to_aml_bytes(&mut code.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    fn slots(count: usize) -> Vec<MmioSlot> {
        layout::MMIO_GSIS[..count]
            .iter()
            .zip(0_u64..)
            .map(|(gsi, index)| MmioSlot {
                address: GuestAddress(0xc000_1000 + index * 0x1000),
                gsi: *gsi,
            })
            .collect()
    }

    fn blob(vcpus: u64, slot_count: usize) -> Vec<u8> {
        tables(VcpuCount::new(vcpus).unwrap(), &slots(slot_count))
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    /// The table at a guest address, by its own length, with its checksum checked.
    fn table(blob: &[u8], address: u64) -> &[u8] {
        let at = usize::try_from(address - 0xe_0000).unwrap();
        let length = usize::try_from(u32_at(blob, at + 4)).unwrap();
        let table = &blob[at..at + length];
        assert_eq!(sum(table), 0);
        table
    }

    fn by_signature<'a>(blob: &'a [u8], signature: &[u8]) -> &'a [u8] {
        assert_eq!(&blob[..8], b"RSD PTR ");
        assert_eq!((sum(&blob[..20]), sum(&blob[..36])), (0, 0));
        let xsdt = table(blob, u64_at(blob, 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        xsdt[36..]
            .chunks(8)
            .map(|entry| table(blob, u64::from_le_bytes(entry.try_into().unwrap())))
            .find(|table| table.starts_with(signature))
            .unwrap()
    }

    fn contains(table: &[u8], part: &[u8]) -> bool {
        table.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn the_fadt_is_hardware_reduced_with_reset_and_sleep_registers() {
        let blob = blob(1, 0);
        let fadt = by_signature(&blob, b"FACP");
        assert_eq!(fadt.len(), 276);
        let flags = u32_at(fadt, 112);
        for bit in [0, 4, 5, 6, 10, 20] {
            assert_eq!(flags >> bit & 1, 1, "flag {bit}");
        }
        assert_eq!(fadt[109..111], [6, 0], "an 8042 and no VGA");
        assert_eq!(
            fadt[116..129],
            [1, 8, 0, 1, 0x64, 0, 0, 0, 0, 0, 0, 0, 0xfe]
        );
        assert_eq!(fadt[244..256], [1, 8, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]);
        assert_eq!(fadt[256..268], [1, 8, 0, 1, 1, 6, 0, 0, 0, 0, 0, 0]);
        let dsdt = table(&blob, u64_at(fadt, 140));
        assert_eq!(&dsdt[..4], b"DSDT");
    }

    #[test]
    fn the_madt_lists_every_processor_and_the_io_apic() {
        let blob = blob(32, 0);
        let madt = by_signature(&blob, b"APIC");
        assert_eq!(u32_at(madt, 36), 0xfee0_0000);
        assert_eq!(u32_at(madt, 40), 0, "no legacy interrupt controller");
        assert_eq!(madt.len(), 44 + 12 + 32 * 8);
        assert_eq!(madt[44..48], [1, 12, 0, 0]);
        let ids: Vec<u8> = madt[56..].chunks(8).map(|entry| entry[3]).collect();
        assert_eq!(ids, (0..32).collect::<Vec<u8>>());
        assert!(madt[56..].chunks(8).all(|entry| entry[4] == 1));
    }

    #[test]
    fn the_dsdt_describes_every_slot_and_the_power_button() {
        let blob = blob(1, 17);
        let fadt = by_signature(&blob, b"FACP");
        let dsdt = table(&blob, u64_at(fadt, 140));
        for slot in slots(17) {
            let mut resource = vec![0x86, 9, 0, 1];
            resource.extend(u32::try_from(slot.address.0).unwrap().to_le_bytes());
            resource.extend(0x1000_u32.to_le_bytes());
            // Extended interrupt: consumer, edge, active high, one number.
            resource.extend([0x89, 6, 0, 3, 1]);
            resource.extend(slot.gsi.to_le_bytes());
            assert!(contains(dsdt, &resource), "{slot:?}");
        }
        for part in [&b"LNRO0005"[..], b"ACPI0013", b"PWRB", b"_EVT", b"V010"] {
            assert!(contains(dsdt, part));
        }
        assert!(contains(dsdt, b"_S5_\x12\x04\x01\x0a\x05"));
    }

    #[test]
    fn the_largest_machine_fits_the_room_for_tables() {
        let blob = blob(32, 17);
        assert!(blob.len() < layout::ACPI_TABLES_SIZE, "{}", blob.len());
    }
}

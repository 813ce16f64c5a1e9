//! The local APIC's two local interrupt pins, as firmware leaves them (Intel SDM 3A §11.5.1).

use kvm_bindings::kvm_lapic_state;

const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const DELIVERY_MODE: u32 = 0x700;
const DELIVER_NMI: u32 = 0x400;
const DELIVER_EXT_INT: u32 = 0x700;

/// Wires LINT0 to the legacy interrupt controller and LINT1 to the non-maskable interrupt.
pub fn wire_local_interrupts(apic: &mut kvm_lapic_state) {
    set_delivery_mode(apic, LVT_LINT0, DELIVER_EXT_INT);
    set_delivery_mode(apic, LVT_LINT1, DELIVER_NMI);
}

fn set_delivery_mode(apic: &mut kvm_lapic_state, register: usize, mode: u32) {
    let value = (read(apic, register) & !DELIVERY_MODE) | mode;
    for (byte, new) in apic.regs[register..].iter_mut().zip(value.to_le_bytes()) {
        *byte = new.cast_signed();
    }
}

fn read(apic: &kvm_lapic_state, register: usize) -> u32 {
    let mut bytes = [0; 4];
    for (byte, register) in bytes.iter_mut().zip(&apic.regs[register..]) {
        *byte = register.cast_unsigned();
    }
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_get_their_delivery_modes_and_keep_the_rest() {
        let mut apic = kvm_lapic_state::default();
        // LINT0 masked with delivery mode SMI, LINT1 masked and fixed.
        for (at, bytes) in [(LVT_LINT0, [0, 2, 1, 0]), (LVT_LINT1, [0, 0, 1, 0])] {
            apic.regs[at..at + 4].copy_from_slice(&bytes);
        }
        wire_local_interrupts(&mut apic);
        assert_eq!(read(&apic, LVT_LINT0), 0x1_0700);
        assert_eq!(read(&apic, LVT_LINT1), 0x1_0400);
        assert_eq!(read(&apic, 0x340), 0);
        assert_eq!(read(&apic, 0x370), 0);
    }
}

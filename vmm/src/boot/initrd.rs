//! Where the initrd goes: as high in low memory as the kernel allows, at a page boundary, mapped.

use vm_memory::{Address, GuestAddress};

use super::Initrd;
use super::file::{FileFault, ImageFile};
use super::kernel::InitrdRoom;
use crate::memory::{GuestMemory, PAGE_SIZE};

/// What is wrong with an initrd.
#[derive(Debug, thiserror::Error)]
pub enum InitrdFault {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileFault),
    /// It does not fit beside the kernel.
    #[error(
        "it takes {size_mib} MiB and the guest has {free_mib} MiB free beside its kernel: give the \
         guest more memory"
    )]
    TooLarge {
        /// Its size in MiB, rounded up.
        size_mib: u64,
        /// Free memory in MiB, rounded down.
        free_mib: u64,
    },
}

/// Places `file` into `room`.
pub(super) fn load(
    memory: &GuestMemory,
    file: &ImageFile,
    room: &InitrdRoom,
) -> Result<Initrd, InitrdFault> {
    let size = file.size();
    let address = place(size, room).ok_or(InitrdFault::TooLarge {
        size_mib: size.div_ceil(1 << 20),
        free_mib: room.end.raw_value().saturating_sub(room.start.raw_value()) >> 20,
    })?;
    file.place(memory, address, 0, size)?;
    Ok(Initrd { address, size })
}

fn place(size: u64, room: &InitrdRoom) -> Option<GuestAddress> {
    let start = room.end.raw_value().checked_sub(size)? / PAGE_SIZE * PAGE_SIZE;
    (start >= room.start.raw_value()).then_some(GuestAddress(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_as_high_as_it_may_on_a_page_boundary_or_nowhere() {
        let room = InitrdRoom {
            start: GuestAddress(0x20_0000),
            end: GuestAddress(0x30_0000),
        };
        let table = [
            (1, Some(0x2f_f000)),
            (0x1000, Some(0x2f_f000)),
            (0x1001, Some(0x2f_e000)),
            (0x10_0000, Some(0x20_0000)),
            (0x10_0001, None),
            (u64::MAX, None),
        ];
        for (size, expected) in table {
            assert_eq!(place(size, &room), expected.map(GuestAddress), "{size:#x}");
        }
        let none = InitrdRoom {
            start: GuestAddress(0x30_0000),
            end: GuestAddress(0x20_0000),
        };
        assert_eq!(place(1, &none), None);
    }
}

//! What KVM tells every machine alike, asked by one process for another: a quarter of a millisecond that who builds a jail
//! has while the monitor starts in it.

use std::os::fd::OwnedFd;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use super::{DEVICE, Kvm, own};
use devices::outside;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The most rows that are passed on; the kernel has fewer, and who has more is asked again.
const MOST_ROWS: usize = 128;

/// A row of the table: function, index, flags, EAX, EBX, ECX, EDX.
pub type CpuidRow = [u32; 7];

/// Opens KVM's device and asks what processors it supports; `None` when that does not work out, which whoever needs it will
/// find out with the reason.
pub fn ask_ahead() -> Option<(OwnedFd, Vec<CpuidRow>)> {
    let path = Path::new(OsStr::from_bytes(DEVICE.to_bytes()));
    let device = outside::open(path, OFlags::RDWR).ok()?;
    let asked = own::kvm(device.try_clone().ok()?);
    let table = asked
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .ok()?;
    let rows: Vec<CpuidRow> = table.as_slice().iter().map(row).collect();
    (rows.len() <= MOST_ROWS).then_some((device.into(), rows))
}

fn row(entry: &kvm_cpuid_entry2) -> CpuidRow {
    [
        entry.function,
        entry.index,
        entry.flags,
        entry.eax,
        entry.ebx,
        entry.ecx,
        entry.edx,
    ]
}

/// The table of these rows; `None` for more than KVM can have.
pub(super) fn table(rows: &[CpuidRow]) -> Option<CpuId> {
    let entries: Vec<_> = rows
        .iter()
        .map(
            |&[function, index, flags, eax, ebx, ecx, edx]| kvm_cpuid_entry2 {
                function,
                index,
                flags,
                eax,
                ebx,
                ecx,
                edx,
                ..kvm_cpuid_entry2::default()
            },
        )
        .collect();
    CpuId::from_entries(&entries).ok()
}

impl Kvm {
    /// What somebody outside has asked already, if there is somebody.
    pub(super) fn asked_ahead() -> Option<(OwnedFd, Option<CpuId>)> {
        let (device, rows) = outside::way()?.kvm()?;
        Some((device, table(&rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_passed_on_is_the_one_that_was_asked_for() {
        let rows: Vec<CpuidRow> = (0..40).map(|n| [n, n + 1, n & 1, 4, 5, 6, 7]).collect();
        let table = table(&rows).unwrap();
        assert_eq!(table.as_slice().iter().map(row).collect::<Vec<_>>(), rows);
    }

    #[test]
    fn more_rows_than_kvm_can_have_are_no_table() {
        assert!(table(&vec![[0; 7]; 100_000]).is_none());
    }
}

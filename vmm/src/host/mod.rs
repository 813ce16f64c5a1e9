//! What this host offers to guests, and what stands in their way.
//!
//! Every check is a function from text or error numbers to a [`Finding`], with a thin reader around it.
//! A check that saw nothing is [`Level::Unknown`], never [`Level::Ok`].

mod cgroup;
mod devices;
mod ending;
mod hardening;
mod isolation;
mod kind;
mod kvm;
mod machine;
mod probe;
mod read;
mod report;
mod seccomp;
mod storage;
mod syscalls;

pub use cgroup::{Hierarchy, hierarchies};
pub use ending::await_ending;
pub use hardening::harden;
pub use report::{Finding, Level, Report, Row, Section, Verdict};

use ::devices::outside;

use crate::kvm::DEVICE;

/// Looks at everything, the probe guest included. Takes some milliseconds and changes nothing.
pub fn examine() -> Report {
    let mut rows = kvm::rows(DEVICE);
    rows.extend(devices::rows());
    rows.extend(isolation::rows());
    rows.extend(machine::rows());
    Report::new(rows)
}

/// Why guests cannot run here, in one sentence with what to do; `None` where KVM looks as it should.
///
/// For a start that failed on KVM's side: opening it, a refused call, or a guest that KVM could not go on
/// with (`KVM_EXIT_INTERNAL_ERROR`) soon after its first instruction. Runs the probe guest.
pub fn explain() -> Option<String> {
    if let Some(way) = outside::way() {
        return way.explain();
    }
    let rows = kvm::rows(DEVICE);
    report::obstacle(&rows).map(|row| report::sentence(&row.finding))
}

/// Whether the host's KVM is not one of a processor's own kind (VMX, SVM): what guests it runs, only
/// [`explain`] can tell. Cheap: it looks for two directories.
pub fn is_uncommon() -> bool {
    kind::is_uncommon()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explanation_and_the_report_agree() {
        let report = examine();
        match explain() {
            None => assert_eq!(report.can_run_guests, Verdict::Yes, "{}", report.summary),
            Some(sentence) => {
                assert_ne!(report.can_run_guests, Verdict::Yes, "{sentence}");
                assert!(report.summary.ends_with(&sentence), "{}", report.summary);
            }
        }
    }
}

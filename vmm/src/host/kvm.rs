//! The rows about KVM itself.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::kind::{Host, kind};
use super::probe::{self, Probe};
use super::read;
use super::report::{Finding, Row, Section};
use crate::arch::x86_64::VcpuCount;
use crate::kvm::{Kvm, KvmError, NEEDS, Need, Survey, VmError};

/// Every row about KVM at `path`; the required ones decide whether guests run.
pub(super) fn rows(path: &CStr) -> Vec<Row> {
    let host = Host::look();
    let kvm = Kvm::open_whatever_it_lacks(path);
    let device = match &kvm {
        Ok(_) => Finding::ok("opens for reading and writing, interface version 12"),
        Err(error) => refused(error, Owner::of(path).as_ref(), &host),
    };
    let mut rows = vec![
        required("kvm-device", "/dev/kvm", device),
        Row::new(Section::Kvm, "kvm-kind", "kind", kind(&host)),
    ];
    match kvm {
        Ok(kvm) => {
            let survey = kvm.survey();
            rows.extend(surveyed(&survey, &probe::run(kvm, probe::TIME_LIMIT)));
        }
        Err(_) => rows.extend(unseen()),
    }
    rows
}

fn surveyed(survey: &Survey, probe: &Probe) -> Vec<Row> {
    let mut rows = vec![
        required("kvm-machine", "machine", machine(&survey.machine)),
        required("kvm-probe", "probe guest", probed(probe)),
        vcpus_row(vcpus(survey.max_vcpus)),
    ];
    rows.extend(
        survey
            .capabilities
            .iter()
            .map(|&(need, present)| capability_row(need, capability(need, present))),
    );
    rows
}

/// The rows that need an open KVM, for a host without one.
fn unseen() -> Vec<Row> {
    let finding = Finding::unknown(
        "not seen, since /dev/kvm cannot be used",
        "see the row `/dev/kvm`",
    );
    let mut rows = vec![
        required("kvm-machine", "machine", finding.clone()),
        required("kvm-probe", "probe guest", finding.clone()),
        vcpus_row(finding.clone()),
    ];
    rows.extend(
        NEEDS
            .iter()
            .map(|need| capability_row(need, finding.clone())),
    );
    rows
}

fn required(id: &str, title: &str, finding: Finding) -> Row {
    Row::required(Section::Kvm, id, title, finding)
}

fn vcpus_row(finding: Finding) -> Row {
    Row::new(Section::Kvm, "kvm-vcpus", "vCPUs", finding)
}

/// `KVM_CAP_IRQFD` has the id `kvm-cap-irqfd`.
fn capability_row(need: &Need, finding: Finding) -> Row {
    let id = need.name.to_ascii_lowercase().replace('_', "-");
    let row = Row::new(Section::Capabilities, &id, need.name, finding);
    Row {
        required: need.required,
        ..row
    }
}

fn capability(need: &Need, present: bool) -> Finding {
    match (present, need.required) {
        (true, _) => Finding::ok(need.why),
        (false, true) => Finding::failing(
            format!("{} is missing ({})", need.name, need.why),
            "use a kernel of 5.10 or newer with KVM for this processor",
        ),
        (false, false) => Finding::warning(
            format!("missing ({})", need.why),
            "guests run without it; a newer kernel may have it",
        ),
    }
}

/// **One sentence for the user, the same in the report and where a start fails.**
fn probed(probe: &Probe) -> Finding {
    match probe {
        Probe::Native => Finding::ok(
            "privileged guest code runs on the processor (cmpxchg16b at level 0): stock Linux boots",
        ),
        Probe::Emulated { why } => Finding::failing(
            format!(
                "this host's KVM emulates privileged guest code (no cmpxchg16b: {why}), so stock Linux \
                 guests cannot boot on it"
            ),
            "use a bare-metal host or tools/testbed",
        ),
        Probe::Unknown { why } => Finding::unknown(
            why.clone(),
            "look for KVM's words in the kernel log (dmesg), and try again",
        ),
    }
}

fn machine(made: &Result<(), VmError>) -> Finding {
    let Err(error) = made else {
        return Finding::ok("KVM makes virtual machines");
    };
    let (evidence, advice) = match error.source.raw_os_error() {
        Some(libc::EBUSY) => (
            "another hypervisor holds the processor's virtualisation",
            "stop VirtualBox, VMware or whatever else runs guests without KVM",
        ),
        Some(libc::ENOMEM) => (
            "the kernel has no memory for a machine",
            "free memory, or raise the memory limit of this cgroup",
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            "no file descriptors are left for a machine",
            "raise the limit (ulimit -n)",
        ),
        _ => (
            "KVM makes no virtual machine",
            "look for KVM's words in the kernel log (dmesg)",
        ),
    };
    Finding::failing(
        format!("{evidence} ({}: {})", error.call, error.source),
        advice,
    )
}

fn vcpus(most: usize) -> Finding {
    let evidence = format!("at most {most} for each guest");
    if most >= usize::from(VcpuCount::MAX) {
        Finding::ok(evidence)
    } else {
        let allowed = VcpuCount::MAX;
        Finding::warning(
            evidence,
            format!("give a guest at most {most} (--cpus); ravelin itself allows {allowed}"),
        )
    }
}

/// What a refusal means depends on the host around it.
fn refused(error: &KvmError, owner: Option<&Owner>, host: &Host) -> Finding {
    let (evidence, advice) = match error {
        KvmError::Missing => ("does not exist", host.how_to_get_kvm()),
        KvmError::NoDriver => ("exists, but no KVM is loaded behind it", host.how_to_get_kvm()),
        KvmError::Denied => ("may not be opened by this user", Owner::how_to_enter(owner)),
        KvmError::Refused => (
            "may not be opened, whatever its mode says",
            "let the device cgroup or the container pass it (--device /dev/kvm), and mount /dev without nodev"
                .to_owned(),
        ),
        KvmError::NotKvm => (
            "is not KVM's device",
            "remove it, and make the device: mknod /dev/kvm c 10 232".to_owned(),
        ),
        other => {
            let advice = "mend what the kernel names, or use Linux 5.10 or newer";
            return Finding::failing(other.to_string(), advice);
        }
    };
    Finding::failing(format!("/dev/kvm {evidence}"), advice)
}

/// Who may open the device.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    mode: u32,
    group: Option<String>,
}

impl Owner {
    fn of(path: &CStr) -> Option<Self> {
        let metadata = fs::metadata(OsStr::from_bytes(path.to_bytes())).ok()?;
        let groups = read::text("/etc/group").unwrap_or_default();
        Some(Self {
            mode: metadata.mode(),
            group: group_name(&groups, metadata.gid()),
        })
    }

    fn how_to_enter(owner: Option<&Self>) -> String {
        const GROUP_MAY: u32 = 0o060;
        let group = owner
            .filter(|owner| owner.mode & GROUP_MAY == GROUP_MAY)
            .and_then(|owner| owner.group.as_deref())
            .filter(|group| *group != "root");
        match group {
            Some(group) => {
                format!("join its group and log in again: sudo usermod -aG {group} \"$USER\"")
            }
            None => "let this user in: sudo setfacl -m u:\"$USER\":rw /dev/kvm".to_owned(),
        }
    }
}

/// The name of group `gid` in the text of `/etc/group` (group(5)).
fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?;
        (number.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::{Level, sentence};
    use super::*;

    #[test]
    fn an_emulating_kvm_is_explained_in_one_sentence() {
        let finding = probed(&Probe::Emulated {
            why: "KVM_EXIT_INTERNAL_ERROR".to_owned(),
        });
        assert_eq!(finding.level, Level::Failing);
        assert_eq!(
            sentence(&finding),
            "this host's KVM emulates privileged guest code (no cmpxchg16b: KVM_EXIT_INTERNAL_ERROR), \
             so stock Linux guests cannot boot on it; use a bare-metal host or tools/testbed"
        );
    }

    #[test]
    fn a_probe_without_an_answer_is_not_green() {
        let why = "the probe guest did not end within 5 s".to_owned();
        assert_eq!(probed(&Probe::Unknown { why }).level, Level::Unknown);
        assert_eq!(probed(&Probe::Native).level, Level::Ok);
    }

    #[test]
    fn a_denied_device_leads_to_its_group_or_to_an_acl() {
        let advice = |mode, group: &str| {
            let owner = Owner {
                mode,
                group: Some(group.to_owned()),
            };
            refused(&KvmError::Denied, Some(&owner), &Host::default())
                .advice
                .unwrap()
        };
        assert!(advice(0o20660, "kvm").contains("usermod -aG kvm"));
        assert!(advice(0o20600, "kvm").contains("setfacl"));
        assert!(advice(0o20660, "root").contains("setfacl"));
    }

    #[test]
    fn a_busy_processor_is_another_hypervisor() {
        let finding = machine(&Err(VmError {
            call: "KVM_CREATE_VM",
            source: std::io::Error::from_raw_os_error(libc::EBUSY),
        }));
        assert_eq!(finding.level, Level::Failing);
        assert!(finding.advice.unwrap().contains("VirtualBox"));
    }

    #[test]
    fn a_missing_capability_fails_only_if_guests_need_it() {
        let needed = NEEDS.iter().find(|need| need.required).unwrap();
        let wished = NEEDS.iter().find(|need| !need.required).unwrap();
        assert_eq!(capability(needed, false).level, Level::Failing);
        assert_eq!(capability(wished, false).level, Level::Warning);
        assert_eq!(capability(needed, true).level, Level::Ok);
    }

    #[test]
    fn a_host_without_kvm_has_the_same_rows_as_one_with_it() {
        let survey = Survey {
            machine: Ok(()),
            max_vcpus: 8,
            capabilities: NEEDS.iter().map(|need| (need, true)).collect(),
        };
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(surveyed(&survey, &Probe::Native)), ids(unseen()));
    }

    #[test]
    fn a_group_is_found_by_its_number() {
        let groups = "root:x:0:\nkvm:x:104:me,you\nbroken\n";
        assert_eq!(group_name(groups, 104).as_deref(), Some("kvm"));
        assert_eq!(group_name(groups, 105), None);
    }
}

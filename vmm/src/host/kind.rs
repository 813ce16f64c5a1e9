//! Which KVM this host has, and how to get one where there is none.

use std::path::Path;

use super::read;
use super::report::Finding;

/// What the host says about its virtualisation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// Modules of KVM that are loaded or built in.
    modules: Vec<Module>,
    /// `vmx` or `svm`.
    extension: Option<&'static str>,
    /// Whether the host is a virtual machine itself.
    inside_a_machine: bool,
}

/// A flavour of KVM, and whether the processor translates the guest's addresses (EPT, NPT).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    name: &'static str,
    translates: Option<bool>,
}

const INTEL: &str = "kvm_intel";
const AMD: &str = "kvm_amd";
const PAGE_TABLE: &str = "kvm_pvm";

impl Host {
    pub(super) fn look() -> Self {
        let cpuinfo = read::text("/proc/cpuinfo").ok();
        let flags = cpuinfo.as_deref().and_then(flags).unwrap_or_default();
        let modules = [(INTEL, "ept"), (AMD, "npt"), (PAGE_TABLE, "-")]
            .into_iter()
            .filter(|(name, _)| Path::new("/sys/module").join(name).exists())
            .map(|(name, parameter)| Module {
                name,
                translates: read::text(format!("/sys/module/{name}/parameters/{parameter}"))
                    .ok()
                    .map(|value| matches!(value.as_str(), "1" | "Y")),
            })
            .collect();
        Self {
            modules,
            extension: extension(&flags),
            inside_a_machine: flags.contains(&"hypervisor"),
        }
    }

    pub(super) fn how_to_get_kvm(&self) -> String {
        if let Some(module) = self.modules.first() {
            return format!(
                "{} is loaded: make the device (mknod /dev/kvm c 10 232), or pass it to this container \
                 (--device /dev/kvm)",
                module.name
            );
        }
        match (self.extension, self.inside_a_machine) {
            (Some("vmx"), _) => "load KVM: sudo modprobe kvm_intel".to_owned(),
            (Some(_), _) => "load KVM: sudo modprobe kvm_amd".to_owned(),
            (None, true) => {
                "this host is a virtual machine without nested virtualisation: enable that \
                             on its host, or use tools/testbed"
                    .to_owned()
            }
            (None, false) => {
                "switch on virtualisation (VT-x or SVM) in the firmware, then sudo modprobe \
                              kvm_intel or kvm_amd; without it use tools/testbed"
                    .to_owned()
            }
        }
    }
}

/// Whether neither module of a processor's own virtualisation is there.
pub(super) fn is_uncommon() -> bool {
    let is_there = |name| Path::new("/sys/module").join(name).exists();
    ![INTEL, AMD].into_iter().any(is_there)
}

/// The first processor's flags in the text of `/proc/cpuinfo`.
fn flags(cpuinfo: &str) -> Option<Vec<&str>> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim_end() == "flags").then(|| value.split_whitespace().collect())
    })
}

fn extension(flags: &[&str]) -> Option<&'static str> {
    ["vmx", "svm"]
        .into_iter()
        .find(|extension| flags.contains(extension))
}

pub(super) fn kind(host: &Host) -> Finding {
    let place = if host.inside_a_machine {
        ", and this host is a virtual machine itself (nested)"
    } else {
        ""
    };
    match host.modules.as_slice() {
        [] => Finding::unknown(
            "no module of KVM is known under /sys/module",
            "mount /sys, or see the row `/dev/kvm`",
        ),
        [module] => kind_of(module, place),
        several => Finding::unknown(
            format!(
                "several modules are loaded: {}{place}",
                several
                    .iter()
                    .map(|module| module.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "the row `probe guest` says what the one behind /dev/kvm can do",
        ),
    }
}

fn kind_of(module: &Module, place: &str) -> Finding {
    let (extension, translation) = match module.name {
        INTEL => ("Intel VMX", "EPT"),
        AMD => ("AMD SVM", "NPT"),
        _ => {
            return Finding::warning(
                format!(
                    "page-table KVM ({}), no hardware virtualisation{place}",
                    module.name
                ),
                "the row `probe guest` says what it can run",
            );
        }
    };
    let name = module.name;
    match module.translates {
        Some(true) => Finding::ok(format!("{extension} ({name}) with {translation}{place}")),
        Some(false) => Finding::warning(
            format!("{extension} ({name}) without {translation}{place}"),
            format!("memory is slow without {translation}: load {name} with it switched on"),
        ),
        None => Finding::ok(format!("{extension} ({name}){place}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn host(extension: Option<&'static str>, inside_a_machine: bool) -> Host {
        Host {
            modules: Vec::new(),
            extension,
            inside_a_machine,
        }
    }

    fn with_module(name: &'static str, translates: Option<bool>) -> Host {
        Host {
            modules: vec![Module { name, translates }],
            ..host(Some("svm"), true)
        }
    }

    #[test]
    fn the_kind_tells_hardware_from_page_tables() {
        let level = |name, translates| kind(&with_module(name, translates)).level;
        assert_eq!(level(AMD, Some(true)), Level::Ok);
        assert_eq!(level(INTEL, Some(false)), Level::Warning);
        assert_eq!(level(PAGE_TABLE, None), Level::Warning);
        assert_eq!(kind(&host(Some("svm"), false)).level, Level::Unknown);
    }

    #[test]
    fn the_way_to_kvm_depends_on_the_host() {
        let modules = |extension| host(extension, false).how_to_get_kvm();
        assert!(modules(Some("vmx")).contains("modprobe kvm_intel"));
        assert!(modules(Some("svm")).contains("modprobe kvm_amd"));
        assert!(modules(None).contains("firmware"));
        assert!(host(None, true).how_to_get_kvm().contains("nested"));
        let loaded = with_module(AMD, Some(true)).how_to_get_kvm();
        assert!(loaded.contains("--device /dev/kvm"));
    }

    #[test]
    fn the_first_processors_flags_are_read() {
        let cpuinfo = "processor\t: 0\nflags\t\t: fpu svm hypervisor\n\nprocessor\t: 1\n";
        let flags = flags(cpuinfo).unwrap();
        assert_eq!(extension(&flags), Some("svm"));
        assert!(flags.contains(&"hypervisor"));
    }
}

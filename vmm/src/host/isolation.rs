//! The rows about what a wall around the monitor's own process can be made of.

use std::io;

use super::cgroup;
use super::read;
use super::report::{Finding, Row, Section};
use super::seccomp::{self, TrialError};
use super::syscalls;

pub(super) fn rows() -> Vec<Row> {
    let row = |id, title, finding| Row::new(Section::Isolation, id, title, finding);
    vec![
        row("cgroup", "cgroup", cgroup::look()),
        row("user-namespaces", "user namespaces", look_at_namespaces()),
        row("landlock", "Landlock", landlock(syscalls::landlock_abi())),
        row(
            "seccomp",
            "seccomp",
            seccomp(seccomp::trial(), syscalls::seccomp_can_kill_process()),
        ),
        row("lsm", "security module", look_at_modules()),
    ]
}

/// A sysctl that can keep user namespaces from users: the value that does, and one that does not.
struct Switch {
    name: &'static str,
    forbids: &'static str,
    allows: &'static str,
}

const SWITCHES: [Switch; 3] = [
    Switch {
        name: "user.max_user_namespaces",
        forbids: "0",
        allows: "10000",
    },
    Switch {
        name: "kernel.unprivileged_userns_clone",
        forbids: "0",
        allows: "1",
    },
    Switch {
        name: "kernel.apparmor_restrict_unprivileged_userns",
        forbids: "1",
        allows: "0",
    },
];

fn look_at_namespaces() -> Finding {
    let guilty = SWITCHES.iter().find(|switch| {
        let path = format!("/proc/sys/{}", switch.name.replace('.', "/"));
        read::text(path).is_ok_and(|value| value == switch.forbids)
    });
    namespaces(&syscalls::user_namespace(), guilty)
}

fn namespaces(made: &io::Result<()>, guilty: Option<&Switch>) -> Finding {
    let Err(error) = made else {
        return Finding::ok("a trial made one, and a mount namespace inside it");
    };
    let advice = match guilty {
        Some(Switch { name, allows, .. }) => {
            format!("for isolation without root allow them: sudo sysctl {name}={allows}")
        }
        None => {
            "for isolation without root leave the container or seccomp filter that forbids them"
                .to_owned()
        }
    };
    Finding::warning(format!("a trial was refused: {error}"), advice)
}

/// Landlock's versions (landlock(7)): 1 files, 4 TCP ports, 6 signals and abstract sockets.
fn landlock(abi: io::Result<i64>) -> Finding {
    const SCOPES: i64 = 6;
    match abi {
        Ok(abi) if abi >= SCOPES => Finding::ok(format!(
            "version {abi}: files, TCP ports, signals and sockets"
        )),
        Ok(abi) => Finding::warning(
            format!("version {abi} cannot keep a process from signals and abstract sockets"),
            "use Linux 6.12 or newer for version 6",
        ),
        Err(error) => {
            let advice = match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => "add landlock to the kernel's lsm= parameter",
                _ => "use a kernel of 5.13 or newer with CONFIG_SECURITY_LANDLOCK",
            };
            Finding::warning(format!("not available: {error}"), advice)
        }
    }
}

fn seccomp(trial: Result<(), TrialError>, kill: io::Result<()>) -> Finding {
    let fault = match (trial, kill) {
        (Ok(()), Ok(())) => {
            return Finding::ok("a trial filter refused its call; filters can kill the process");
        }
        (Err(error), _) => format!("a trial filter failed: {error}"),
        (Ok(()), Err(error)) => format!("filters cannot kill the process: {error}"),
    };
    Finding::warning(
        fault,
        "use a kernel with CONFIG_SECCOMP_FILTER, outside a container that forbids seccomp(2)",
    )
}

pub(super) fn look_at_modules() -> Finding {
    let listed = read::text("/sys/kernel/security/lsm").or_else(|_| {
        let ids = syscalls::security_modules()?;
        let names: Vec<_> = ids.into_iter().map(module_name).collect();
        Ok::<_, io::Error>(names.join(","))
    });
    let enforcing = read::text("/sys/fs/selinux/enforce").ok();
    modules(&listed, enforcing.as_deref())
}

/// The security modules' numbers (Linux `uapi/linux/lsm.h`).
fn module_name(id: u64) -> String {
    const FIRST: u64 = 100;
    const NAMES: [&str; 14] = [
        "capability",
        "selinux",
        "smack",
        "tomoyo",
        "apparmor",
        "yama",
        "loadpin",
        "safesetid",
        "lockdown",
        "bpf",
        "landlock",
        "ima",
        "evm",
        "ipe",
    ];
    id.checked_sub(FIRST)
        .and_then(|index| NAMES.get(usize::try_from(index).ok()?))
        .map_or_else(|| format!("module {id}"), |&name| name.to_owned())
}

/// A label or profile for the process needs one of these.
const LABELLING: [&str; 4] = ["selinux", "apparmor", "smack", "tomoyo"];

fn modules(listed: &io::Result<String>, selinux_enforces: Option<&str>) -> Finding {
    let list = match listed {
        Ok(list) if !list.is_empty() => list,
        Ok(_) | Err(_) => {
            return Finding::unknown(
                "the kernel does not list its security modules",
                "mount securityfs: sudo mount -t securityfs securityfs /sys/kernel/security",
            );
        }
    };
    let evidence = format!("active: {}", list.replace(',', ", "));
    let Some(module) = list.split(',').find(|name| LABELLING.contains(name)) else {
        return Finding::warning(
            evidence,
            "none of them labels processes: boot with SELinux or AppArmor for one more wall",
        );
    };
    match (module, selinux_enforces) {
        ("selinux", Some("1")) => Finding::ok(format!("{evidence}; SELinux enforces")),
        ("selinux", Some(_)) => Finding::warning(
            format!("{evidence}; SELinux only warns"),
            "let it enforce: sudo setenforce 1",
        ),
        ("selinux", None) => Finding::unknown(
            format!("{evidence}; whether SELinux enforces is not told"),
            "mount selinuxfs",
        ),
        _ => Finding::ok(evidence),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn error<T>(errno: i32) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn the_sysctl_that_forbids_namespaces_is_named_with_its_cure() {
        let refused = namespaces(&error(libc::ENOSPC), Some(&SWITCHES[0]));
        assert_eq!(refused.level, Level::Warning);
        let advice = refused.advice.unwrap();
        assert!(
            advice.ends_with("sudo sysctl user.max_user_namespaces=10000"),
            "{advice}"
        );
        assert_eq!(namespaces(&Ok(()), None).level, Level::Ok);
    }

    #[test]
    fn landlock_is_green_from_version_6() {
        assert_eq!(landlock(Ok(7)).level, Level::Ok);
        assert_eq!(landlock(Ok(4)).level, Level::Warning);
        let off = landlock(error(libc::EOPNOTSUPP));
        assert!(off.advice.unwrap().contains("lsm="));
    }

    #[test]
    fn a_missing_seccomp_is_a_warning() {
        assert_eq!(seccomp(Ok(()), Ok(())).level, Level::Ok);
        let no_kill = seccomp(Ok(()), error(libc::ENOSYS));
        assert_eq!(no_kill.level, Level::Warning);
        let ignored = Err(TrialError::Ignored("Pid(7)".to_owned()));
        let finding = seccomp(ignored, Ok(()));
        assert_eq!(finding.level, Level::Warning);
        assert!(
            finding.evidence.contains("did not obey"),
            "{}",
            finding.evidence
        );
    }

    #[test]
    fn modules_without_labels_are_a_warning_and_silence_is_unknown() {
        let found = |list: &str, enforces| modules(&Ok(list.to_owned()), enforces).level;
        assert_eq!(found("capability,landlock", None), Level::Warning);
        assert_eq!(found("capability,apparmor", None), Level::Ok);
        assert_eq!(found("capability,selinux", Some("1")), Level::Ok);
        assert_eq!(found("capability,selinux", Some("0")), Level::Warning);
        assert_eq!(found("capability,selinux", None), Level::Unknown);
        assert_eq!(modules(&error(libc::ENOENT), None).level, Level::Unknown);
    }

    #[test]
    fn modules_have_their_kernel_names() {
        assert_eq!(module_name(100), "capability");
        assert_eq!(module_name(104), "apparmor");
        assert_eq!(module_name(110), "landlock");
        assert_eq!(module_name(99), "module 99");
        assert_eq!(module_name(500), "module 500");
    }
}

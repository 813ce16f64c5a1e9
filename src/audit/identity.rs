//! Who the process is, and what it may: users, groups, capabilities, tracing, label.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::proc::{self, Process};
use super::report::Finding;
use super::threads::{Capabilities, Thread, over};

/// The wall that is looked at by itself.
pub(super) const LABEL: &str = "label";

/// The wall that no thread's status tells of.
pub(super) const ENVIRONMENT: &str = "environment";

/// The label of each thread.
pub(super) fn look_at_label(process: &Process, threads: &[Thread]) -> Finding {
    let enforces = proc::text("/sys/fs/selinux/enforce".as_ref()).ok();
    over(threads, |thread| {
        let text = |file| process.thread(thread.tid).text(file);
        // The first is that of whichever module comes first; a kernel may have another before AppArmor.
        let current = text("attr/current").or_else(|error| {
            let apparmor = text("attr/apparmor/current");
            apparmor.map_err(|_| error)
        });
        label(&current, enforces.as_deref())
    })
}

/// Each other wall of the section, looked at.
pub(super) fn look(process: &Process, threads: &[Thread]) -> Vec<(&'static str, Finding)> {
    let owner = fs::metadata(process.path("environ")).map(|found| found.uid());
    vec![
        ("user", over(threads, user)),
        ("groups", over(threads, groups)),
        ("capabilities", over(threads, capabilities)),
        ("no-new-privs", over(threads, no_new_privs)),
        ("dumpable", dumpable(&owner, threads)),
        ("untraced", over(threads, untraced)),
        (ENVIRONMENT, environment(&process.bytes("environ"))),
        (
            "securebits",
            Finding::not_testable("securebits have no view in /proc"),
        ),
    ]
}

fn user(thread: &Thread) -> Finding {
    let (Some(uid), Some(gid)) = (thread.status.uid, thread.status.gid) else {
        return Finding::silent("users and groups of its threads");
    };
    let one = |ids: [u32; 4]| ids.iter().all(|id| *id == ids[0]);
    if !one(uid) || !one(gid) {
        Finding::absent(format!(
            "real, effective, saved and file system ids differ: users {uid:?}, groups {gid:?}"
        ))
    } else if uid[0] == 0 || gid[0] == 0 {
        Finding::absent(format!("user {}, group {}", uid[0], gid[0]))
    } else {
        Finding::in_force(format!("user {}, group {}", uid[0], gid[0]))
    }
}

fn groups(thread: &Thread) -> Finding {
    match (thread.status.groups.as_deref(), thread.status.gid) {
        (None, _) | (_, None) => Finding::silent("the groups of its threads"),
        // Its own group once more adds nothing.
        (Some(groups), Some(gid)) if groups.iter().all(|group| *group == gid[0]) => {
            Finding::in_force("none")
        }
        (Some(groups), _) => {
            let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
            Finding::absent(format!("also in {}", groups.join(", ")))
        }
    }
}

fn capabilities(thread: &Thread) -> Finding {
    let Some(sets) = thread.status.capabilities else {
        return Finding::silent("the capabilities of its threads");
    };
    let Capabilities {
        inheritable,
        permitted,
        effective,
        bounding,
        ambient,
    } = sets;
    let filled: Vec<_> = [
        ("effective", effective),
        ("permitted", permitted),
        ("inheritable", inheritable),
        ("bounding", bounding),
        ("ambient", ambient),
    ]
    .into_iter()
    .filter(|(_, set)| *set != 0)
    .map(|(name, set)| format!("{name} {}", held(set)))
    .collect();
    match filled.is_empty() {
        true => Finding::in_force("all five sets are empty"),
        false => Finding::absent(filled.join(", ")),
    }
}

/// A few capabilities by name, many by their number.
fn held(set: u64) -> String {
    const FEW: u32 = 4;
    match set.count_ones() {
        count if count > FEW => format!("{count}"),
        _ => {
            let names = (0..64).filter(|bit| set & (1 << bit) != 0).map(capability);
            names.collect::<Vec<_>>().join("+")
        }
    }
}

/// A capability's name (Linux `uapi/linux/capability.h`), without `CAP_` and in small letters.
fn capability(bit: usize) -> String {
    const NAMES: &str = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap \
        linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module \
        sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time \
        sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog \
        wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore";
    let name = NAMES.split_whitespace().nth(bit);
    name.map_or_else(|| format!("capability {bit}"), str::to_owned)
}

fn no_new_privs(thread: &Thread) -> Finding {
    match thread.status.no_new_privs {
        Some(true) => Finding::in_force("set"),
        Some(false) => Finding::absent("not set"),
        None => Finding::silent("whether its threads can gain privileges"),
    }
}

fn untraced(thread: &Thread) -> Finding {
    match thread.status.tracer {
        Some(0) => Finding::in_force("nobody traces it"),
        Some(tracer) => Finding::absent(format!("process {tracer} traces it")),
        None => Finding::silent("whether somebody traces it"),
    }
}

/// A process that is not dumpable has its files in `/proc` owned by root (proc(5)); for root's own processes
/// this tells nothing.
fn dumpable(owner: &io::Result<u32>, threads: &[Thread]) -> Finding {
    let owner = match owner {
        Ok(owner) => *owner,
        Err(error) => return Finding::unreadable("/proc/PID", error),
    };
    match threads.first().and_then(|thread| thread.status.uid) {
        None => Finding::silent("the users of its threads"),
        Some([_, 0, ..]) => Finding::not_testable(
            "its files in /proc are root's, as it is itself: that is so whether it is dumpable or not",
        ),
        Some([_, user, ..]) if user == owner => {
            Finding::absent(format!("its files in /proc belong to its user {user}"))
        }
        Some([_, user, ..]) => Finding::in_force(format!(
            "its files in /proc belong to user {owner} and not to its user {user}"
        )),
    }
}

fn environment(bytes: &io::Result<Vec<u8>>) -> Finding {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return Finding::unreadable("/proc/PID/environ", error),
    };
    let held = bytes
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty());
    match held.count() {
        0 => Finding::in_force("empty"),
        1 => Finding::absent("1 variable"),
        count => Finding::absent(format!("{count} variables")),
    }
}

/// The label of the process (proc_pid_attr(5)), and whether SELinux enforces.
fn label(current: &io::Result<String>, selinux_enforces: Option<&str>) -> Finding {
    let label = match current {
        Ok(label) => label.trim_end_matches(['\0', '\n']),
        // The file is there, and no module answers (Linux `security/security.c`, `getprocattr`).
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Finding::absent("not available: no active security module labels processes");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::absent("not available: the kernel has no labels for processes");
        }
        Err(error) => return Finding::unreadable("/proc/PID/attr/current", error),
    };
    // `user:role:type`, and a range.
    let kind = label.split(':').nth(2);
    match (kind.is_some(), selinux_enforces) {
        _ if label.is_empty() => Finding::absent("no label"),
        _ if is_free(kind.unwrap_or(label)) => {
            let advice = match kind {
                Some(_) => "load ravelin's policy module: resources/selinux",
                None => "load ravelin's profile: resources/apparmor",
            };
            Finding::absent(format!("{label}: no confinement")).advised(advice)
        }
        (true, Some("1")) => Finding::in_force(format!("{label}, enforced")),
        (true, Some(_)) => Finding::absent(format!("{label}, but SELinux only warns"))
            .advised("let it enforce: sudo setenforce 1"),
        (true, None) => {
            Finding::not_testable(format!("{label}: whether it is enforced is not told"))
                .advised("mount selinuxfs")
        }
        // AppArmor: `profile (mode)`.
        (false, _) if label.ends_with("(enforce)") => Finding::in_force(label),
        (false, _) if label.ends_with("(complain)") => {
            Finding::absent(format!("{label}: AppArmor only warns"))
        }
        (false, _) => Finding::not_testable(format!("{label}: not known whether it is enforced")),
    }
}

/// Whether a type of SELinux's, or a profile, confines nothing: those of shells, of services without one of their own,
/// and of the kernel and the first process (refpolicy `unconfined.te`, `kernel.te`, `init.te`).
fn is_free(name: &str) -> bool {
    name.contains("unconfined") || ["kernel_t", "init_t", "initrc_t"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::super::threads::tests::thread;
    use super::*;

    fn error<T>(errno: i32) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_user_is_one_and_not_root() {
        let found = |uid: &str, gid: &str| {
            let status = format!("Uid:\t{uid}\nGid:\t{gid}\n");
            user(&thread("main", &status)).state
        };
        assert_eq!(found("9 9 9 9", "8 8 8 8"), State::InForce);
        assert_eq!(found("0 0 0 0", "8 8 8 8"), State::Absent);
        assert_eq!(found("9 9 9 9", "0 0 0 0"), State::Absent);
        assert_eq!(found("9 9 0 9", "8 8 8 8"), State::Absent);
        assert_eq!(found("", "8 8 8 8"), State::NotTestable);
    }

    #[test]
    fn further_groups_are_listed() {
        let found = |groups: &str| groups_of(&format!("Gid:\t8 8 8 8\n{groups}"));
        assert_eq!(found("Groups:\t\n").state, State::InForce);
        assert_eq!(found("Groups:\t8\n").state, State::InForce);
        assert_eq!(found("Groups:\t8 108\n").evidence, "also in 8, 108");
        assert_eq!(found("").state, State::NotTestable);
    }

    fn groups_of(status: &str) -> Finding {
        groups(&thread("main", status))
    }

    #[test]
    fn one_set_of_capabilities_that_is_not_empty_is_a_hole() {
        let found = |bounding: &str, ambient: &str| {
            let status = format!(
                "CapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\t{bounding}\nCapAmb:\t{ambient}\n"
            );
            capabilities(&thread("main", &status))
        };
        assert_eq!(found("0", "0").state, State::InForce);
        assert_eq!(found("200000", "0").evidence, "bounding sys_admin");
        let two = found("1ffffffffff", "3");
        assert_eq!(two.evidence, "bounding 41, ambient chown+dac_override");
        assert_eq!(two.state, State::Absent);
        let silent = capabilities(&thread("main", "CapInh:\t0\n"));
        assert_eq!(silent.state, State::NotTestable);
    }

    #[test]
    fn flags_are_read_and_silence_is_not_green() {
        let found = |text: &str| no_new_privs(&thread("main", text)).state;
        assert_eq!(found("NoNewPrivs:\t1\n"), State::InForce);
        assert_eq!(found("NoNewPrivs:\t0\n"), State::Absent);
        assert_eq!(found(""), State::NotTestable);
        let traced = untraced(&thread("main", "TracerPid:\t12\n"));
        assert_eq!(traced.evidence, "process 12 traces it");
        assert_eq!(untraced(&thread("main", "")).state, State::NotTestable);
    }

    #[test]
    fn a_process_of_roots_does_not_show_whether_it_is_dumpable() {
        let threads = |uid: &str| [thread("main", &format!("Uid:\t{uid}\n"))];
        let found = |owner, uid| dumpable(&owner, &threads(uid)).state;
        assert_eq!(found(Ok(0), "0 0 0 0"), State::NotTestable);
        assert_eq!(found(Ok(9), "9 9 9 9"), State::Absent);
        assert_eq!(found(Ok(0), "9 9 9 9"), State::InForce);
        assert_eq!(found(error(libc::ENOENT), "9 9 9 9"), State::NotTestable);
        assert_eq!(dumpable(&Ok(0), &[]).state, State::NotTestable);
    }

    #[test]
    fn an_environment_is_counted() {
        assert_eq!(environment(&Ok(Vec::new())).state, State::InForce);
        let found = environment(&Ok(b"A=1\0B=2\0".to_vec()));
        assert_eq!(found.evidence, "2 variables");
        let refused = environment(&error(libc::EACCES));
        assert_eq!(refused.state, State::NotTestable);
        assert!(refused.advice.is_some());
    }

    #[test]
    fn a_label_counts_when_it_confines_and_is_enforced() {
        let found = |text: &str, enforces| label(&Ok(text.to_owned()), enforces).state;
        let context = "system_u:system_r:ravelin_t:s0:c1,c2\0";
        assert_eq!(found(context, Some("1")), State::InForce);
        assert_eq!(found(context, Some("0")), State::Absent);
        assert_eq!(found(context, None), State::NotTestable);
        assert_eq!(
            found("unconfined_u:unconfined_r:unconfined_t:s0", Some("1")),
            State::Absent
        );
        let of_a_shells = "unconfined_u:unconfined_r:ravelin_vm_t:s0:c1,c2";
        assert_eq!(found(of_a_shells, Some("1")), State::InForce);
        let shell = label(&Ok("unconfined\n".to_owned()), None);
        assert!(shell.advice.unwrap().contains("resources/apparmor"));
        for free in [
            "system_u:system_r:kernel_t:s0",
            "u:r:unconfined_service_t:s0",
        ] {
            assert_eq!(found(free, Some("1")), State::Absent, "{free}");
        }
        assert_eq!(found("ravelin (enforce)\n", None), State::InForce);
        assert_eq!(found("ravelin (complain)\n", None), State::Absent);
        assert_eq!(found("unconfined\n", None), State::Absent);
        assert_eq!(found("", None), State::Absent);
    }

    #[test]
    fn a_kernel_without_labels_is_never_green() {
        let found = label(&error(libc::EINVAL), None);
        assert_eq!(found.state, State::Absent);
        assert!(found.evidence.starts_with("not available"));
        assert_eq!(label(&error(libc::EACCES), None).state, State::NotTestable);
    }
}

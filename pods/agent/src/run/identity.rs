//! Who a process is and what it may do: limits, user, groups, capabilities.

use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::{During, RunError};
use crate::spec::{self, Capabilities, Process, User, capability};

/// Becomes root of a user namespace that has been made.
pub(super) fn become_root() -> Result<(), RunError> {
    let what = "be root in the user namespace";
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during(what)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during(what)
}

/// Sets the limits of the process.
pub(super) fn limits(process: &Process) -> Result<(), RunError> {
    for limit in &process.rlimits {
        let what = format!("set {}", limit.kind);
        let resource = resource(&limit.kind).ok_or(Errno::INVAL).during(&what)?;
        let value = |value| (value != u64::MAX).then_some(value);
        let limit = Rlimit {
            current: value(limit.soft),
            maximum: value(limit.hard),
        };
        setrlimit(resource, limit).during(what)?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name.strip_prefix("RLIMIT_")? {
        "CPU" => Resource::Cpu,
        "FSIZE" => Resource::Fsize,
        "DATA" => Resource::Data,
        "STACK" => Resource::Stack,
        "CORE" => Resource::Core,
        "RSS" => Resource::Rss,
        "NPROC" => Resource::Nproc,
        "NOFILE" => Resource::Nofile,
        "MEMLOCK" => Resource::Memlock,
        "AS" => Resource::As,
        "LOCKS" => Resource::Locks,
        "SIGPENDING" => Resource::Sigpending,
        "MSGQUEUE" => Resource::Msgqueue,
        "NICE" => Resource::Nice,
        "RTPRIO" => Resource::Rtprio,
        "RTTIME" => Resource::Rttime,
        _ => return None,
    })
}

/// Becomes the user and has the capabilities that the process is to have; nothing comes back.
pub(super) fn become_user(process: &Process) -> Result<(), RunError> {
    let none = Capabilities::default();
    let wanted = process.capabilities.as_ref().unwrap_or(&none);
    bound(spec::capability::set(&wanted.bounding))?;
    set_keep_capabilities(true).during("keep capabilities")?;
    user(&process.user)?;
    set_keep_capabilities(false).during("keep capabilities")?;
    let sets = CapabilitySets {
        effective: capability::set(&wanted.effective),
        permitted: capability::set(&wanted.permitted),
        inheritable: capability::set(&wanted.inheritable),
    };
    set_capabilities(None, sets).during("set the capabilities")?;
    clear_ambient_capability_set().during("set the ambient capabilities")?;
    let ambient = capability::set(&wanted.ambient);
    for one in capability::all().filter(|one| ambient.contains(*one)) {
        // As with other runtimes: one that it does not have otherwise is left out.
        match configure_capability_in_ambient_set(one, true) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error).during("set the ambient capabilities"),
        }
    }
    Ok(())
}

/// Lets no program that is executed have others than these.
fn bound(kept: CapabilitySet) -> Result<(), RunError> {
    for one in capability::all().filter(|one| !kept.contains(*one)) {
        match capability_is_in_bounding_set(one) {
            Ok(true) => {
                remove_capability_from_bounding_set(one).during("drop capabilities")?;
            }
            // The kernel is older than the capability, or does not have it any more.
            Ok(false) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error).during("drop capabilities"),
        }
    }
    Ok(())
}

fn user(user: &User) -> Result<(), RunError> {
    let groups: Vec<Gid> = user
        .additional_gids
        .iter()
        .map(|group| Gid::from_raw(*group))
        .collect();
    match set_thread_groups(&groups) {
        // A user namespace without the right to have others.
        Err(Errno::PERM) if groups.is_empty() => {}
        other => other.during("have the additional groups")?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid).during(format!("be of the group {}", user.gid))?;
    set_thread_res_uid(uid, uid, uid).during(format!("be the user {}", user.uid))
}

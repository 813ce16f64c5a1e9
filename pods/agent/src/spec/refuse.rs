//! What a description may ask for and the agent does not do: each is refused in a sentence.

use super::{Linux, NamespaceKind, Process, Resources, SeccompAction, Spec, capability};

/// The most of anything in a list of a description.
const MOST: usize = 4096;

/// Why a description is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not a config.json, or a field of it that the agent does not know.
    #[error("the container's config.json is not one that this agent can obey: {0}")]
    Container(serde_json::Error),
    /// The same of a process.
    #[error("the process's description is not one that this agent can obey: {0}")]
    Process(serde_json::Error),
    /// The same of limits.
    #[error("the limits are not such that this agent can obey them: {0}")]
    Resources(serde_json::Error),
    /// Something is missing.
    #[error("the container's config.json has no {0}: it must have one")]
    Missing(&'static str),
    /// A value that is known and cannot be obeyed.
    #[error("{field} is {value} and {why}: leave it out")]
    Value {
        /// Where it stands.
        field: &'static str,
        /// What it is.
        value: String,
        /// Why it cannot be.
        why: &'static str,
    },
    /// A list without end.
    #[error("{0} has more than {MOST} entries")]
    TooMany(&'static str),
}

/// Looks at a whole container.
pub(super) fn spec(spec: &Spec) -> Result<(), Refusal> {
    process(spec.process.as_ref().ok_or(Refusal::Missing("process"))?)?;
    for (kind, hooks) in spec.hooks.iter().flatten() {
        if hooks.as_ref().is_some_and(|hooks| !hooks.is_empty()) {
            return Err(Refusal::Value {
                field: "hooks",
                value: format!("a list for {kind}"),
                why: "a guest has no programs of the host to run",
            });
        }
    }
    few("mounts", spec.mounts.len())?;
    for mount in &spec.mounts {
        if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
            return Err(Refusal::Value {
                field: "uidMappings of a mount",
                value: mount.destination.clone(),
                why: "mounts with mapped users are not made",
            });
        }
    }
    linux(&spec.linux)
}

fn linux(linux: &Linux) -> Result<(), Refusal> {
    few("linux.devices", linux.devices.len())?;
    few("linux.maskedPaths", linux.masked_paths.len())?;
    few("linux.readonlyPaths", linux.readonly_paths.len())?;
    few("linux.sysctl", linux.sysctl.len())?;
    few("linux.uidMappings", linux.uid_mappings.len())?;
    label("linux.mountLabel", linux.mount_label.as_deref())?;
    let user = linux
        .namespaces
        .iter()
        .any(|namespace| namespace.kind == NamespaceKind::User);
    if user && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
        return Err(Refusal::Missing(
            "linux.uidMappings and gidMappings beside its user namespace",
        ));
    }
    if let Some(seccomp) = &linux.seccomp {
        few("linux.seccomp.syscalls", seccomp.syscalls.len())?;
        let asks = |action| action == SeccompAction::ScmpActNotify;
        let listens = seccomp
            .listener_path
            .as_ref()
            .is_some_and(|path| !path.is_empty());
        if listens
            || asks(seccomp.default_action)
            || seccomp.syscalls.iter().any(|rule| asks(rule.action))
        {
            return Err(Refusal::Value {
                field: "linux.seccomp",
                value: "one that notifies a listener".into(),
                why: "a guest has no listener of the host",
            });
        }
    }
    resources(&linux.resources)
}

/// Looks at a process.
pub(super) fn process(process: &Process) -> Result<(), Refusal> {
    if process.args.is_empty() || process.args[0].is_empty() {
        return Err(Refusal::Missing("process.args"));
    }
    few("process.args", process.args.len())?;
    few("process.env", process.env.len())?;
    few("process.rlimits", process.rlimits.len())?;
    few(
        "process.user.additionalGids",
        process.user.additional_gids.len(),
    )?;
    if !process.cwd.starts_with('/') {
        return Err(Refusal::Value {
            field: "process.cwd",
            value: format!("{:?}", process.cwd),
            why: "an absolute path was expected",
        });
    }
    let unknown = process
        .capabilities
        .iter()
        .flat_map(|sets| sets.names())
        .find(|name| capability::named(name).is_none());
    if let Some(name) = unknown {
        return Err(Refusal::Value {
            field: "process.capabilities",
            value: name.clone(),
            why: "there is no such capability",
        });
    }
    let text = process.args.iter().chain(&process.env);
    if let Some(bad) = text.chain([&process.cwd]).find(|text| text.contains('\0')) {
        return Err(Refusal::Value {
            field: "process",
            value: format!("{bad:?}"),
            why: "no word may hold a zero byte",
        });
    }
    let profile = process.apparmor_profile.as_deref();
    label(
        "process.apparmorProfile",
        profile.filter(|name| *name != "unconfined"),
    )?;
    label("process.selinuxLabel", process.selinux_label.as_deref())
}

/// Looks at limits.
pub(super) fn resources(resources: &Resources) -> Result<(), Refusal> {
    few("linux.resources.devices", resources.devices.len())?;
    few("linux.resources.unified", resources.unified.len())?;
    let refused = [
        (
            "linux.resources.hugepageLimits",
            resources
                .hugepage_limits
                .iter()
                .any(|page| page.limit != 0 && page.limit != u64::MAX),
            "a guest has no large pages",
        ),
        (
            "linux.resources.rdma",
            !resources.rdma.is_empty(),
            "a guest has no RDMA",
        ),
        (
            "linux.resources.memory.disableOOMKiller",
            resources.memory.disable_oom_killer == Some(true),
            "cgroups of version 2 cannot wait instead",
        ),
        (
            "linux.resources.cpu.realtimeRuntime",
            resources.cpu.realtime_runtime.unwrap_or(0) != 0
                || resources.cpu.realtime_period.unwrap_or(0) != 0,
            "cgroups of version 2 have no share of real time",
        ),
        (
            "linux.resources.blockIO.weightDevice",
            !resources.block_io.weight_device.is_empty()
                || resources.block_io.leaf_weight.unwrap_or(0) != 0,
            "weights of single disks are not set",
        ),
    ];
    match refused.into_iter().find(|(_, is_there, _)| *is_there) {
        Some((field, _, why)) => Err(Refusal::Value {
            field,
            value: "set".into(),
            why,
        }),
        None => Ok(()),
    }
}

fn label(field: &'static str, label: Option<&str>) -> Result<(), Refusal> {
    match label {
        None | Some("") => Ok(()),
        Some(label) => Err(Refusal::Value {
            field,
            value: label.chars().take(80).collect(),
            why: "the guest's kernel has no such policy: labels are the host's",
        }),
    }
}

fn few(field: &'static str, count: usize) -> Result<(), Refusal> {
    if count > MOST {
        return Err(Refusal::TooMany(field));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = r#""process": {"args": ["sh"], "cwd": "/"}"#;

    fn said(text: &str) -> String {
        Spec::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_short_description_is_enough() {
        let spec = Spec::parse(format!("{{{PROCESS}}}").as_bytes()).unwrap();
        assert_eq!(spec.process().args, ["sh"]);
    }

    #[test]
    fn an_unknown_field_is_refused_by_its_name() {
        for (text, name) in [
            (format!(r#"{{{PROCESS}, "vm": {{}}}}"#), "`vm`"),
            (
                format!(r#"{{{PROCESS}, "linux": {{"intelRdt": {{}}}}}}"#),
                "`intelRdt`",
            ),
            (
                r#"{"process": {"args": ["sh"], "cwd": "/", "scheduler": {}}}"#.into(),
                "`scheduler`",
            ),
        ] {
            assert!(said(&text).contains(name), "{}", said(&text));
        }
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_in_a_sentence() {
        for (text, name) in [
            ("{}".into(), "process"),
            (
                r#"{"process": {"args": [], "cwd": "/"}}"#.into(),
                "process.args",
            ),
            (
                r#"{"process": {"args": ["sh"], "cwd": "tmp"}}"#.into(),
                "process.cwd",
            ),
            (
                r#"{"process": {"args": ["sh"], "cwd": "/", "selinuxLabel": "x"}}"#.into(),
                "selinuxLabel",
            ),
            (
                r#"{"process": {"args": ["sh"], "cwd": "/", "capabilities": {"bounding": ["CAP_X"]}}}"#
                    .into(),
                "CAP_X",
            ),
            (
                format!(r#"{{{PROCESS}, "hooks": {{"prestart": [{{"path": "/x"}}]}}}}"#),
                "hooks",
            ),
            (
                format!(
                    r#"{{{PROCESS}, "linux": {{"seccomp": {{"defaultAction": "SCMP_ACT_NOTIFY"}}}}}}"#
                ),
                "seccomp",
            ),
        ] {
            assert!(said(&text).contains(name), "{}", said(&text));
        }
    }

    #[test]
    fn what_belongs_to_the_host_is_not_looked_at() {
        let text = format!(
            r#"{{{PROCESS}, "annotations": {{"a": "b"}}, "root": {{"path": "rootfs"}},
                "linux": {{"cgroupsPath": "/x", "namespaces": [{{"type": "pid"}}], "seccomp": null}},
                "hooks": {{"prestart": null}}, "mounts": null}}"#
        );
        Spec::parse(text.as_bytes()).unwrap();
    }
}

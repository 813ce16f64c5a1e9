//! An image's configuration and a user's wishes as a container: config.json of the OCI runtime specification.

use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use crate::accounts::{Accounts, Unknown, User};

/// What Docker and containerd give a container that asks for nothing.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a user wants other than the image does.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// A program in place of the image's entrypoint; empty for none.
    pub entrypoint: Option<String>,
    /// Arguments in place of the image's.
    pub arguments: Vec<String>,
    /// `NAME=VALUE`, over the image's.
    pub environment: Vec<String>,
    /// `USER[:GROUP]` in place of the image's.
    pub user: Option<String>,
    /// The directory in place of the image's.
    pub directory: Option<String>,
    /// What the container is called.
    pub hostname: Option<String>,
    /// Whether its console is a terminal.
    pub terminal: bool,
    /// The type of that terminal.
    pub term: Option<String>,
}

/// Why an image cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is nothing to run.
    #[error("the image names no command: name one behind \"--\"")]
    Nothing,
    /// A user that is not there.
    #[error(transparent)]
    User(#[from] Unknown),
    /// A directory that is no path from the root.
    #[error("the directory {0:?} does not begin with a slash: name it from the root of the image")]
    Directory(String),
    /// A variable without a name.
    #[error("the variable {0:?} has no name: NAME=VALUE is expected")]
    Variable(String),
}

/// The container.
///
/// # Errors
/// If image and wishes give none.
pub fn container(
    config: &ImageConfiguration,
    accounts: &Accounts,
    wishes: &Wishes,
) -> Result<Value, RuntimeError> {
    let process = config.config().as_ref();
    let user = wishes
        .user
        .clone()
        .or_else(|| process?.user().clone())
        .unwrap_or_default();
    let user = accounts.user(&user)?;
    let directory = wishes
        .directory
        .clone()
        .or_else(|| process?.working_dir().clone());
    let directory = directory
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/".into());
    if !directory.starts_with('/') {
        return Err(RuntimeError::Directory(directory));
    }
    let sets = json!(CAPABILITIES);
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": wishes.hostname.as_deref().unwrap_or("ravelin"),
        "process": {
            "terminal": wishes.terminal,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.others},
            "args": arguments(config, wishes)?,
            "env": environment(config, wishes, &user)?,
            "cwd": directory,
            "capabilities": {"bounding": sets, "effective": sets, "permitted": sets},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1_048_576, "soft": 1024}],
        },
        "mounts": mounts(),
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }))
}

/// As Docker has it: an entrypoint of the user's own takes the image's arguments away as well.
fn arguments(config: &ImageConfiguration, wishes: &Wishes) -> Result<Vec<String>, RuntimeError> {
    let process = config.config().as_ref();
    let of_image = |part: &Option<Vec<String>>| part.clone().unwrap_or_default();
    let mut words = match &wishes.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => process
            .map(|process| of_image(process.entrypoint()))
            .unwrap_or_default(),
    };
    if !wishes.arguments.is_empty() {
        words.extend(wishes.arguments.iter().cloned());
    } else if wishes.entrypoint.is_none() {
        words.extend(
            process
                .map(|process| of_image(process.cmd()))
                .unwrap_or_default(),
        );
    }
    if words.is_empty() {
        return Err(RuntimeError::Nothing);
    }
    Ok(words)
}

fn environment(
    config: &ImageConfiguration,
    wishes: &Wishes,
    user: &User,
) -> Result<Vec<String>, RuntimeError> {
    let mut variables: Vec<String> = vec![PATH.into(), format!("HOME={}", user.home)];
    if wishes.terminal {
        variables.push(format!(
            "TERM={}",
            wishes.term.as_deref().unwrap_or("xterm")
        ));
    }
    let of_image = config
        .config()
        .as_ref()
        .and_then(|process| process.env().clone());
    for variable in of_image.iter().flatten().chain(&wishes.environment) {
        let Some((name, _)) = variable
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
        else {
            return Err(RuntimeError::Variable(variable.clone()));
        };
        let same = |other: &String| {
            other
                .split_once('=')
                .is_some_and(|(other, _)| other == name)
        };
        variables.retain(|other| !same(other));
        variables.push(variable.clone());
    }
    Ok(variables)
}

/// What every container finds, as runc's own specification has it. The network is the guest's.
fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(process: &Value) -> ImageConfiguration {
        let config = json!({"architecture": "amd64", "os": "linux", "config": process,
            "rootfs": {"type": "layers", "diff_ids": []}});
        serde_json::from_value(config).unwrap()
    }

    fn made(process: &Value, wishes: &Wishes) -> Value {
        container(&config(process), &Accounts::default(), wishes).unwrap()["process"].take()
    }

    #[test]
    fn entrypoint_and_command_are_put_together_as_docker_does() {
        let image = json!({"Entrypoint": ["/entry", "-x"], "Cmd": ["serve"]});
        let args = |entrypoint: Option<&str>, arguments: &[&str]| {
            let wishes = Wishes {
                entrypoint: entrypoint.map(Into::into),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                ..Wishes::default()
            };
            made(&image, &wishes)["args"].take()
        };
        assert_eq!(args(None, &[]), json!(["/entry", "-x", "serve"]));
        assert_eq!(args(None, &["a", "b"]), json!(["/entry", "-x", "a", "b"]));
        assert_eq!(args(Some("/sh"), &[]), json!(["/sh"]));
        assert_eq!(args(Some(""), &["a"]), json!(["a"]));
    }

    #[test]
    fn the_users_variables_win_over_the_images() {
        let wishes = Wishes {
            environment: vec!["A=user".into(), "B=".into()],
            ..Wishes::default()
        };
        let env = made(
            &json!({"Env": ["A=image", "HOME=/x"], "Cmd": ["a"]}),
            &wishes,
        )["env"]
            .take();
        assert_eq!(env, json!([PATH, "HOME=/x", "A=user", "B="]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |process: &Value, wishes: &Wishes| {
            container(&config(process), &Accounts::default(), wishes)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&json!({}), &Wishes::default()).contains("no command"));
        let image = json!({"Cmd": ["a"], "WorkingDir": "relative"});
        assert!(refused(&image, &Wishes::default()).contains("slash"));
        let wishes = Wishes {
            environment: vec!["=x".into()],
            ..Wishes::default()
        };
        assert!(refused(&json!({"Cmd": ["a"]}), &wishes).contains("no name"));
    }
}

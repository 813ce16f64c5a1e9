//! `start`: a shim is begun, or the sandbox's is named that a container belongs to, and its address printed.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::arguments::Arguments;
use crate::{Failure, address, bundle, spec};

/// What the kernel's killer for want of memory thinks of a shim: containerd is spared a little more.
const OOM_SCORE: &str = "-998";

/// Begins the shim of the container whose bundle is the working directory.
///
/// # Errors
/// What kept it from being there.
pub(crate) fn start(arguments: &Arguments) -> Result<(), Failure> {
    let here = std::env::current_dir()?;
    let group = group(&here, &arguments.id);
    let socket = address::socket(&arguments.address, &arguments.namespace, &group);
    if group == arguments.id {
        begin(arguments, &socket)?;
    }
    // The plain address, which every containerd from 1.6 on takes; it looks for it in the bundle after a restart.
    let address = format!("unix://{}", socket.display());
    fs::write("address", &address)?;
    io::stdout().write_all(address.as_bytes())?;
    Ok(())
}

/// Whose shim serves this container: its sandbox's, or its own.
fn group(bundle: &Path, id: &str) -> String {
    let sandbox = bundle::spec(bundle)
        .ok()
        .and_then(|text| spec::sandbox(&text));
    sandbox.unwrap_or_else(|| id.to_owned())
}

fn begin(arguments: &Arguments, socket: &Path) -> io::Result<()> {
    let listener: OwnedFd = bind(socket)?.into();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([
            "-namespace",
            &arguments.namespace,
            "-id",
            &arguments.id,
            "-address",
            &arguments.address,
        ])
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A signal for containerd's group is not for the shim.
        .process_group(0);
    if arguments.debug {
        command.arg("-debug");
    }
    let child = command.spawn().inspect_err(|_| {
        let _ = fs::remove_file(socket);
    })?;
    // Who may not set it does without.
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), OOM_SCORE);
    Ok(())
}

/// The socket; one that a killed shim has left behind makes way.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = socket.parent() {
        bundle::make_directory(directory)?;
    }
    match UnixListener::bind(socket) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if UnixStream::connect(socket).is_ok() {
                return Err(error);
            }
            fs::remove_file(socket)?;
            UnixListener::bind(socket)
        }
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_serves_makes_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s/one");
        drop(bind(&path).unwrap());
        let second = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(second);
    }

    #[test]
    fn a_container_of_a_sandbox_is_its_shims() {
        let directory = tempfile::tempdir().unwrap();
        let annotated = r#"{"ociVersion": "1.0.2", "annotations": {
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod"}}"#;
        fs::write(directory.path().join("config.json"), annotated).unwrap();
        assert_eq!(group(directory.path(), "web"), "pod");
        fs::write(directory.path().join("config.json"), "{}").unwrap();
        assert_eq!(group(directory.path(), "web"), "web");
    }
}

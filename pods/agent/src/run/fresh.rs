//! A new container: its namespaces, and what is in them.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::system::{setdomainname, sethostname};
use rustix::thread::UnshareFlags;

use super::console::Terminal;
use super::place::Root;
use super::{ALWAYS, During, RunError, asks, nodes, root};
use crate::line::{Inner, Word};
use crate::raw;
use crate::spec::{NamespaceKind, Spec};

/// Sysctls of the namespaces that a container has for itself (sysctl(2), namespaces(7)).
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Puts this process into the namespaces of a new container, but for the pid namespace, in which its children are. Says
/// whether it has a network of its own.
pub(super) fn namespaces(spec: &Spec, line: &Inner) -> Result<bool, RunError> {
    if asks(spec, NamespaceKind::User) {
        raw::unshare(UnshareFlags::NEWUSER).during("make a user namespace")?;
        line.say(&Word::Map);
        if !line.hear() {
            std::process::exit(1);
        }
        super::identity::become_root()?;
    }
    let network = asks(spec, NamespaceKind::Network);
    let mut kinds = ALWAYS;
    if network {
        kinds |= UnshareFlags::NEWNET;
    }
    if asks(spec, NamespaceKind::Time) {
        kinds |= UnshareFlags::NEWTIME;
    }
    raw::unshare(kinds).during("make the container's namespaces")?;
    if network {
        guest_init::net::configure(None);
    }
    Ok(network)
}

/// Names the container, mounts what it has, and makes that its root. Gives the terminal if it has one.
pub(super) fn fill(
    spec: &Spec,
    root: &Path,
    read_only: bool,
    files: &[PathBuf],
    owns_network: bool,
) -> Result<Option<Terminal>, RunError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).during("keep mounts to the container")?;
    names(spec)?;
    sysctls(spec, owns_network)?;
    let process = spec.process();
    let place = Root::open(root)?.anew()?;
    for mount in &spec.mounts {
        super::root::mount(&place, mount, files)?;
    }
    nodes::make(&place, &spec.linux.devices)?;
    place.make_folder(Path::new(&process.cwd))?;
    let terminal = if process.terminal {
        let terminal = Terminal::open(&place, process.console_size)?;
        terminal.be_console(&place)?;
        Some(terminal)
    } else {
        None
    };
    for path in &spec.linux.masked_paths {
        root::mask(&place, Path::new(path))?;
    }
    for path in &spec.linux.readonly_paths {
        root::protect(&place, Path::new(path))?;
    }
    if read_only || spec.root.as_ref().is_some_and(|root| root.readonly) {
        place.be_read_only()?;
    }
    root::enter(&place, spec.linux.rootfs_propagation.as_deref())?;
    Ok(terminal)
}

fn names(spec: &Spec) -> Result<(), RunError> {
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        sethostname(name.as_bytes()).during(format!("be called {name}"))?;
    }
    if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        setdomainname(name.as_bytes()).during(format!("be of the domain {name}"))?;
    }
    Ok(())
}

/// Sets what belongs to the container's own namespaces, and what belongs to the network, which is the pod's.
fn sysctls(spec: &Spec, _owns_network: bool) -> Result<(), RunError> {
    for (name, value) in &spec.linux.sysctl {
        let what = format!("set the sysctl {name}");
        if !is_of_a_namespace(name) {
            return Err(std::io::Error::other(
                "it belongs to no namespace of the container: set it for the whole guest",
            ))
            .during(what);
        }
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(path, value).during(what)?;
    }
    Ok(())
}

fn is_of_a_namespace(name: &str) -> bool {
    let clean = name
        .split('.')
        .all(|part| !part.is_empty() && !part.contains('/'));
    clean
        && (OF_IPC.contains(&name)
            || name == "kernel.domainname"
            || name == "kernel.hostname"
            || name.starts_with("fs.mqueue.")
            || name.starts_with("net."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_of_the_whole_guest_is_none_of_a_container() {
        assert!(is_of_a_namespace("net.ipv4.ip_unprivileged_port_start"));
        assert!(is_of_a_namespace("kernel.shmmax"));
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "net..x",
            "net/../kernel",
            "net.a/../../kernel.core_pattern",
        ] {
            assert!(!is_of_a_namespace(name), "{name}");
        }
    }
}

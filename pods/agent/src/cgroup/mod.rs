//! A container's cgroup (version 2, Documentation/admin-guide/cgroup-v2.rst).
//!
//! ```text
//! /sys/fs/cgroup/agent        this process: memory that it always has
//! /sys/fs/cgroup/pod          all containers: less memory and fewer processes than the guest can have
//! /sys/fs/cgroup/pod/NAME     one of them
//! ```

mod access;
mod guard;
mod stats;
mod values;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};

pub(crate) use guard::guard;

use crate::error::{AgentError, Doing};
use crate::raw;
use crate::spec::{Device, Resources};

/// How often a cgroup whose processes have been killed is tried to be removed, and what is waited between.
const TRIES: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(10);

/// The cgroup of one container.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one below a folder, with limits, before a process is in it.
    pub(crate) fn make(
        parent: &Path,
        name: &str,
        resources: &Resources,
        devices: &[Device],
    ) -> Result<Self, AgentError> {
        let path = parent.join(name);
        fs::create_dir(&path).doing(format!("make the cgroup of {name}"))?;
        let cgroup = Self(path);
        let made = cgroup
            .set(resources)
            .and_then(|()| cgroup.allow(resources, devices));
        if made.is_err() {
            // What went wrong is said; the folder is empty.
            let _ = fs::remove_dir(&cgroup.0);
        }
        made.map(|()| cgroup)
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Sets limits; those that are not named stay.
    pub(crate) fn set(&self, resources: &Resources) -> Result<(), AgentError> {
        for value in values::of(resources)? {
            let path = self.0.join(&value.file);
            if value.is_hint && !path.exists() {
                continue;
            }
            fs::write(&path, &value.text).doing(format!(
                "set {} to {}",
                value.file,
                value.text.trim()
            ))?;
        }
        Ok(())
    }

    fn allow(&self, resources: &Resources, asked: &[Device]) -> Result<(), AgentError> {
        let what = "say which devices the container may use";
        let Some(program) = access::program(&resources.devices, asked).doing(what)? else {
            return Ok(());
        };
        let program = raw::load_device_program(&program).doing(what)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, &self.0, flags, Mode::empty()).doing(what)?;
        raw::attach_device_program(folder, program).doing(what)
    }

    /// Stops all of its processes where they are, or lets them go on.
    pub(crate) fn freeze(&self, is_frozen: bool) -> Result<(), AgentError> {
        let what = if is_frozen { "pause" } else { "resume" };
        let value = if is_frozen { "1" } else { "0" };
        fs::write(self.0.join("cgroup.freeze"), value).doing(what)
    }

    /// Whether they have all stopped, or all go on.
    pub(crate) async fn is_settled(&self, is_frozen: bool) -> bool {
        let wanted = if is_frozen { "frozen 1" } else { "frozen 0" };
        for _ in 0..TRIES {
            let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
            if events.lines().any(|line| line == wanted) {
                return true;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        false
    }

    /// Its processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        walk(&self.0, 0, &mut |folder| {
            let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
        });
        found
    }

    /// Ends all of them.
    pub(crate) fn kill(&self) {
        if fs::write(self.0.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        for process in self.processes() {
            // It has ended by itself.
            let _ = raw::kill(process, libc::SIGKILL);
        }
    }

    /// Removes it and what the container has made below it, once its processes are gone.
    pub(crate) async fn remove(&self) -> io::Result<()> {
        for _ in 0..TRIES {
            walk(&self.0, 0, &mut |folder| {
                // It is not empty yet.
                let _ = fs::remove_dir(folder);
            });
            if !self.0.exists() {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Err(io::Error::other("its processes do not end"))
    }
}

/// Calls for each folder below one, and then for that one.
fn walk(folder: &Path, depth: u32, each: &mut dyn FnMut(&Path)) {
    /// As deep as the kernel is asked to make cgroups by nobody sane.
    const DEEPEST: u32 = 32;
    if depth < DEEPEST {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), depth + 1, each);
            }
        }
    }
    each(folder);
}

//! Version 2: one hierarchy. A controller works in a cgroup when each one above it passes it on.

use std::path::Path;

use super::tree::Cgroup;
use super::{Leaf, controller};
use crate::jail::error::JailError;

/// Where the file of a process's number is.
const PROCS: &str = "cgroup.procs";
const CONTROLLERS: &str = "cgroup.controllers";
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// Makes the leaf, then enters it.
pub(super) fn enter(leaf: &Leaf) -> Result<(), JailError> {
    let root = Cgroup::root(&leaf.mount)?.read(CONTROLLERS)?;
    for setting in &leaf.settings {
        let controller = controller(&setting.file)?;
        if !names(&root, controller) {
            return Err(JailError::CgroupControllerUnavailable(
                controller.to_owned(),
            ));
        }
    }
    let mut line = Cgroup::make_below(&leaf.mount, &leaf.path)?;
    let made = line.pop().ok_or(JailError::CgroupHierarchyMissing)?;
    for setting in &leaf.settings {
        let controller = controller(&setting.file)?;
        for above in &line {
            if !names(&above.read(SUBTREE_CONTROL)?, controller) {
                above.write(SUBTREE_CONTROL, &format!("+{controller}"))?;
            }
        }
        made.write(&setting.file, &setting.value)?;
    }
    made.write(PROCS, &std::process::id().to_string())
}

/// Enters a cgroup that somebody else has made; where there is none the process stays where it is.
pub(super) fn join(mount: &Path, path: &Path) -> Result<(), JailError> {
    match Cgroup::root(mount)?.below(path)? {
        Some(cgroup) => cgroup.write(PROCS, &std::process::id().to_string()),
        None => Ok(()),
    }
}

/// Has every cgroup of a line pass these controllers on, those that it has itself.
pub(super) fn pass_on(line: &[Cgroup], controllers: &[&str]) -> Result<(), JailError> {
    for above in line {
        let (has, passes) = (above.read(CONTROLLERS)?, above.read(SUBTREE_CONTROL)?);
        for controller in controllers {
            if names(&has, controller) && !names(&passes, controller) {
                above.write(SUBTREE_CONTROL, &format!("+{controller}"))?;
            }
        }
    }
    Ok(())
}

/// Whether a list names a controller.
fn names(list: &str, controller: &str) -> bool {
    list.split_whitespace().any(|name| name == controller)
}

//! Version 1: a hierarchy per controller. A new cpuset has neither processors nor memory until it is given some,
//! and no more than its parent has.

use super::Leaf;
use super::tree::Cgroup;
use crate::jail::error::JailError;

/// Where the file of a process's number is.
const TASKS: &str = "tasks";
/// What a cpuset needs before anything can be in it or below it.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Makes all leaves, then enters them.
pub(super) fn enter(leaves: &[Leaf]) -> Result<(), JailError> {
    let made: Vec<Cgroup> = leaves.iter().map(make).collect::<Result<_, _>>()?;
    let pid = std::process::id().to_string();
    made.iter().try_for_each(|leaf| leaf.write(TASKS, &pid))
}

fn make(leaf: &Leaf) -> Result<Cgroup, JailError> {
    let mut line = Cgroup::make_below(&leaf.mount, &leaf.path)?;
    inherit_cpuset(&line)?;
    let made = line.pop().ok_or(JailError::CgroupHierarchyMissing)?;
    for setting in &leaf.settings {
        made.write(&setting.file, &setting.value)?;
    }
    Ok(made)
}

/// Gives each cgroup of a line the processors and memory of the one above it, in a hierarchy that has cpusets.
pub(super) fn inherit_cpuset(line: &[Cgroup]) -> Result<(), JailError> {
    let has_cpusets = |cgroup: &Cgroup| CPUSET.iter().all(|file| cgroup.has(file));
    match line.last().is_some_and(has_cpusets) {
        true => CPUSET.iter().try_for_each(|file| inherit(line, file)),
        false => Ok(()),
    }
}

/// Gives each cgroup of a line what the one above it has, where it has nothing: from the root down.
fn inherit(line: &[Cgroup], file: &'static str) -> Result<(), JailError> {
    for (above, below) in line.iter().zip(line.iter().skip(1)) {
        if !below.read(file)?.is_empty() {
            continue;
        }
        let value = above.read(file)?;
        if value.is_empty() {
            let path = above.path().to_owned();
            return Err(JailError::CgroupInheritFromParent(path, file));
        }
        below.write(file, &value)?;
    }
    Ok(())
}

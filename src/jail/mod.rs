//! The preparer: a process with a host's rights builds a jail, becomes who has none, and ends with exec.
//!
//! It has no guest, reads nothing that a guest could have written, and knows neither the machine nor its devices.
//! Its steps, their order and what they leave on disk are those of Firecracker's jailer (docs/jailer.md), so that
//! what drives that one drives this one. What it adds stands in `walls`.
//!
//! **What lies below the chroot base may be another's work**: nothing there is reached through a symbolic link.

pub(crate) mod cell;
pub(crate) mod cgroup;
mod error;
mod exec_file;
mod heir;
pub(crate) mod label;
mod limits;
mod nodes;
mod plan;
mod process;
mod root;
mod times;
mod walls;

use std::path::Path;

pub(crate) use self::error::JailError;
use self::exec_file::ExecFile;
pub(crate) use self::heir::Heir;
pub(crate) use self::plan::{CgroupVersion, Cgroups, Ids, Limits, Plan, Setting, Walls};
use self::process::{Part, leave};
use self::root::Root;
use self::times::Times;

/// Builds the jail and becomes the program in it. It returns when this process's part is done because a child
/// goes on in its place.
///
/// # Errors
/// The first step that failed. What was made until then stays, as Firecracker's jailer leaves it.
pub(crate) fn run(plan: &Plan) -> Result<(), JailError> {
    let mut times = Times::start();
    // 1. Nothing of the caller's stays open but stdin, stdout and stderr. (The environment ends with exec.)
    process::close_inherited()?;
    // 2. What the command line names is there, and what it is said to be.
    let exec_file = ExecFile::find(&plan.exec_file)?;
    let base = root::base(&plan.chroot_base)?;
    let cgroups = cgroup::find(&plan.cgroups, exec_file.name(), &plan.id)?;
    // 3. The one device whose number every boot chooses anew.
    let userfaultfd = nodes::userfaultfd_minor();
    // 4. The jail's root.
    let root = Root::make(base, exec_file.name(), &plan.id)?;
    // 5. A copy of its own of the program.
    exec_file.copy_into(&root, plan.ids)?;
    // 6. The network.
    if let Some(netns) = &plan.netns {
        process::join_network(netns)?;
    }
    // 7. Limits of the process.
    limits::set(plan.limits, plan.walls)?;
    // 8. Limits of the cgroup, then the cgroup.
    cgroups.enter()?;
    // 9. What a daemon's stdin, stdout and stderr will be.
    let null = plan.daemonize.then(process::open_null).transpose()?;
    // 10. (On arm: the processor's description. There is no such machine yet.)
    // 11. The root becomes `/`, and there is nothing else.
    walls::unshare(plan.walls)?;
    root.become_root()?;
    // 12. and 13. Its directories and devices.
    nodes::make(plan.ids, userfaultfd)?;
    // 14. Away from the terminal.
    if let Some(null) = null
        && process::daemonize(&null, &mut times)? == Part::Done
    {
        return Ok(());
    }
    // 15. The process, in its PID namespace or not, and its number where others look for it.
    let pid_file = exec_file.pid_file();
    if process::become_first(plan.new_pid_ns, Path::new(&pid_file), &mut times)? == Part::Done {
        return Ok(());
    }
    // 16. No rights any more, and the program.
    walls::drop_rights(plan.ids, plan.walls)?;
    Err(exec_file.exec(plan, &times))
}

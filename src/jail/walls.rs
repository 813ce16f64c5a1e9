//! What is done beyond Firecracker's jailer: walls that no exec file needs to know of.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::error::JailError;
use super::plan::{Ids, Walls};
use super::process;

/// Into a mount namespace, which every jail has, and into those that hide the host's names: its message queues and
/// shared memory, its host name, its cgroups. The cgroup's comes after the cgroup was entered, which is its root then.
pub(super) fn unshare(walls: Walls) -> Result<(), JailError> {
    process::unshare(UnshareFlags::NEWNS).map_err(JailError::UnshareNewNs)?;
    if walls.namespaces {
        let others = UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
        process::unshare(others).map_err(|e| JailError::Wall("namespaces", e))?;
    }
    Ok(())
}

/// Leaves all groups but its own.
pub(super) fn switch_groups() -> Result<(), JailError> {
    set_thread_groups(&[]).map_err(|e| JailError::Ids(e.into()))
}

/// What a process in a cell gives up.
pub(super) struct Rights {
    /// Whom it becomes, if it is to become another.
    pub(super) ids: Option<Ids>,
    /// Every capability, and every way to one.
    pub(super) capabilities: bool,
    /// More rights by exec.
    pub(super) no_new_privileges: bool,
}

/// Gives up rights, for a process that is in no other group already.
pub(super) fn give_up(rights: &Rights) -> Result<(), JailError> {
    let failed = |e: Errno| JailError::Wall("capabilities", e.into());
    if rights.capabilities {
        // First what needs a capability to be given up.
        close_bounding_set().map_err(failed)?;
        set_capabilities_secure_bits(secure_bits()).map_err(failed)?;
    }
    if let Some(ids) = rights.ids {
        switch_user(ids).map_err(|e| JailError::Ids(e.into()))?;
    }
    if rights.capabilities {
        empty_sets().map_err(failed)?;
    }
    if rights.no_new_privileges {
        set_no_new_privs(true).map_err(|e| JailError::Wall("no-new-privs", e.into()))?;
    }
    Ok(())
}

/// Becomes the jail's user, in no other group, and gives up what else a process may be.
pub(super) fn drop_rights(ids: Ids, walls: Walls) -> Result<(), JailError> {
    switch_groups()?;
    give_up(&Rights {
        ids: Some(ids),
        capabilities: walls.capabilities,
        no_new_privileges: walls.no_new_privileges,
    })
}

/// Takes every capability that the kernel has out of what a program could ever be given.
fn close_bounding_set() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Beyond the kernel's last one.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Root is a user as any other, and all of this stays so (capabilities(7), "The securebits flags").
fn secure_bits() -> CapabilitiesSecureBits {
    CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
}

fn switch_user(ids: Ids) -> Result<(), Errno> {
    set_thread_res_gid(ids.gid, ids.gid, ids.gid)?;
    set_thread_res_uid(ids.uid, ids.uid, ids.uid)
}

fn empty_sets() -> Result<(), Errno> {
    clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none)
}

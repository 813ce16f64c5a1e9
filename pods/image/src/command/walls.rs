//! What this process gives up before it reads an image: it is written by strangers.
//!
//! | wall | what is left |
//! | --- | --- |
//! | Landlock, files | the cache to write to; the image, or what a registry needs, to read; nothing to execute |
//! | Landlock, network | none for an image on this host; for a registry no listening |
//! | capabilities | none |
//! | no new privileges, no core | |
//! | address space | 4 GiB |

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use super::Failure;

/// What names and certificates are looked up in, for a registry.
const OF_NETWORK: [&str; 5] = [
    "/etc",
    "/run",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib",
];
/// Bytes: a million entries and all that they may have take less than one.
const ADDRESS_SPACE: u64 = 4 << 30;

/// Raises them. `image`: what is read of this host, or nothing for a registry.
pub(super) fn raise(cache: &Path, image: Option<&Path>) -> Result<(), Failure> {
    set_no_new_privs(true)?;
    limit(Resource::Core, 0)?;
    limit(Resource::As, ADDRESS_SPACE)?;
    landlock(cache, image)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // An image or a cache that is another user's is then read with root's eyes no more.
    let is_own = |path: &Path| {
        std::os::unix::fs::MetadataExt::uid(&path.metadata().ok()?)
            .eq(&rustix::process::geteuid().as_raw())
            .then_some(())
    };
    if is_own(cache).is_some() && image.is_none_or(|image| is_own(image).is_some()) {
        set_capabilities(None, none)?;
    }
    Ok(())
}

fn limit(what: Resource, most: u64) -> Result<(), Failure> {
    let now = getrlimit(what);
    let most = now.maximum.map_or(most, |maximum| maximum.min(most));
    let both = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(what, both)?)
}

/// As far as this kernel can; an older one leaves the rest of the walls.
fn landlock(cache: &Path, image: Option<&Path>) -> Result<(), Failure> {
    let abi = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(abi))?;
    if image.is_some() {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut created = rules.create()?;
    let write = AccessFs::from_all(abi)
        & !(AccessFs::Execute
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeSock
            | AccessFs::MakeFifo);
    created = created.add_rule(PathBeneath::new(PathFd::new(cache)?, write))?;
    let paths = match image {
        Some(path) => vec![path],
        None => OF_NETWORK.iter().map(Path::new).collect(),
    };
    for path in paths {
        // What is not there needs no rule; that the image is not there is said when it is opened.
        if let Ok(fd) = PathFd::new(path) {
            let access = if path.is_dir() {
                read
            } else {
                AccessFs::ReadFile.into()
            };
            created = created.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    created.restrict_self()?;
    Ok(())
}

//! What this process gives up before it reads an image: it is written by strangers.
//!
//! | wall | what is left |
//! | --- | --- |
//! | Landlock, files | the cache to write to; the image, or what a registry needs, to read; nothing to execute |
//! | Landlock, network | none for an image on this host; for a registry no listening |
//! | capabilities | none, unless root reads an image of another user's |
//! | no new privileges, no core | |
//! | address space | 4 GiB |

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
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

/// Raises them. `image`: what is read of this host, or nothing for a registry. Says what became of Landlock, which an old
/// kernel has not.
pub(super) fn raise(cache: &Path, image: Option<&Path>) -> Result<RulesetStatus, Failure> {
    set_no_new_privs(true)?;
    limit(Resource::Core, 0)?;
    limit(Resource::As, ADDRESS_SPACE)?;
    let landlock = landlock(cache, image)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // Without them root reads what is root's only, or everybody's: files of another user's are read with them.
    if is_own(cache) && image.is_none_or(is_own) {
        set_capabilities(None, none)?;
    }
    Ok(landlock)
}

fn is_own(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    path.metadata().is_ok_and(|stat| stat.uid() == own)
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
fn landlock(cache: &Path, image: Option<&Path>) -> Result<RulesetStatus, Failure> {
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
    Ok(created.restrict_self()?.ruleset)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;

    /// Behind walls, in a thread of its own: they are the thread's.
    fn behind(image: Option<&Path>, cache: &Path, act: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let walls = scope.spawn(|| {
                raise(cache, image)
                    .map_err(|error| error.to_string())
                    .unwrap();
                act();
            });
            walls.join().unwrap();
        });
    }

    #[test]
    fn behind_the_walls_only_the_cache_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, image) = (folder.path().join("cache"), folder.path().join("image"));
        fs::create_dir(&cache).unwrap();
        fs::write(&image, "image").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        behind(Some(&image), &cache, || {
            fs::write(cache.join("disk"), "disk").unwrap();
            assert_eq!(fs::read_to_string(&image).unwrap(), "image");
            assert!(fs::write(&image, "other").is_err());
            assert!(fs::write(folder.path().join("beside"), "").is_err());
            assert!(fs::read("/etc/passwd").is_err());
            assert!(Command::new("/bin/true").status().is_err());
            assert!(TcpStream::connect(address).is_err());
        });
    }

    #[test]
    fn for_a_registry_the_network_is_there_and_nothing_listens() {
        let cache = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        behind(None, cache.path(), || {
            assert!(TcpStream::connect(address).is_ok());
            assert!(TcpListener::bind("127.0.0.1:0").is_err());
            assert!(fs::write("/etc/ravelin-was-here", "").is_err());
        });
    }
}

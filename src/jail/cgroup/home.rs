//! A monitor's own cgroups, with the limits that follow from its VM, and their end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FsWord, statfs};
use rustix::io::Errno;

use super::tree::{Cgroup, Mount};
use super::{MOUNTS, controller, device_list, v1, v2};
use crate::jail::error::JailError;
use crate::jail::plan::{CgroupVersion, Setting};

/// What lies above the monitors' cgroups. **By this name alone they are told from other tools'**: a cgroup that somebody
/// makes for VMs by hand is called otherwise.
pub(super) const COMMON: &str = "ravelin.vms";
/// What limits are set by.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "pids", "devices"];
/// The same in version 2, which has no controller of devices.
const CONTROLLERS_V2: [&str; 3] = ["memory", "cpu", "pids"];
/// The file of each usual limit in version 1 and in version 2, and what is without a bound where it is missing.
const LIMITS: [(&str, &str, &str); 3] = [
    ("memory.limit_in_bytes", "memory.max", "memory"),
    ("cpu.cfs_quota_us", "cpu.max", "processors"),
    ("pids.max", "pids.max", "threads"),
];
/// The most threads of a monitor.
const THREADS: u64 = 128;
/// What a monitor needs beside its guest's memory: page tables, buffers of the kernel's, its own few pages.
const OVERHEAD_MIB: u64 = 64;
/// The time slice that a limit of processors is a part of, in microseconds.
const PERIOD_US: u64 = 100_000;
/// What `statfs(2)` calls version 2.
const CGROUP2_SUPER_MAGIC: FsWord = 0x6367_7270;
/// How often it is tried to remove a cgroup whose last process may still be ending, and the pause between: 2 s.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Where a monitor's cgroups are to be: their paths, known before there is one.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    version: CgroupVersion,
    /// A mount and a path in it for each hierarchy.
    places: Vec<(PathBuf, PathBuf)>,
    /// What the user asks for; it comes after what is set anyway.
    settings: Vec<Setting>,
}

/// Cgroups that a monitor can be put into.
#[derive(Debug)]
pub(crate) struct Home {
    version: CgroupVersion,
    cgroups: Vec<Cgroup>,
    settings: Vec<Setting>,
    /// What has no bound there.
    lacking: Vec<&'static str>,
}

impl Site {
    /// Finds where the cgroups of the monitor `name` may be: below `parent`, or near this process's own, so that the
    /// limits which that one has hold for the VM too; in either place among those of the other monitors. `None`: this
    /// host has no cgroups.
    pub(crate) fn find(parent: Option<&Path>, name: &str, settings: Vec<Setting>) -> Option<Self> {
        let text = read_at_once(MOUNTS)?;
        let mounts: Vec<Mount> = text.lines().filter_map(Mount::read).collect();
        let own = read_at_once("/proc/self/cgroup").unwrap_or_default();
        let wanted = |mount: &Mount, list: &[&str]| {
            let asked = || settings.iter().filter_map(|s| controller(&s.file).ok());
            list.iter().any(|one| mount.has(one)) || asked().any(|one| mount.has(one))
        };
        let with_controllers =
            |mount: &&Mount| mount.version == CgroupVersion::V1 && wanted(mount, &CONTROLLERS);
        let below = |near: PathBuf| parent.map_or(near, relative_path).join(COMMON).join(name);
        let v1: Vec<_> = mounts
            .iter()
            .filter(with_controllers)
            .map(|mount| (mount.directory.clone(), below(own_v1(&own, mount))))
            .collect();
        if !v1.is_empty() {
            return Some(Self {
                version: CgroupVersion::V1,
                places: v1,
                settings,
            });
        }
        let mount = mounts.iter().find(|m| m.version == CgroupVersion::V2)?;
        Some(Self {
            version: CgroupVersion::V2,
            places: vec![(mount.directory.clone(), below(beside_v2(&own)))],
            settings,
        })
    }

    /// Makes the cgroups, with the limits that are the same for every VM.
    ///
    /// # Errors
    /// What this user may not make; nothing of it is left.
    pub(crate) fn make(&self) -> Result<Home, JailError> {
        let made = self.make_all();
        if made.is_err() {
            self.remove();
        }
        made
    }

    fn make_all(&self) -> Result<Home, JailError> {
        let mut cgroups = Vec::new();
        for (mount, path) in &self.places {
            cgroups.push(self.make_one(mount, path)?);
        }
        let mut home = Home {
            version: self.version,
            cgroups,
            settings: self.settings.clone(),
            lacking: Vec::new(),
        };
        home.set("pids.max", &THREADS.to_string())?;
        // The monitor opens none: what it has was opened for it.
        let has_list = match self.version {
            CgroupVersion::V1 => home
                .set("devices.deny", "a")
                .map(|()| home.has("devices.deny"))?,
            CgroupVersion::V2 => self.list_devices(&mut home)?,
        };
        let files = LIMITS.map(|(one, two, what)| match self.version {
            CgroupVersion::V1 => (one, what),
            CgroupVersion::V2 => (two, what),
        });
        let missing = files.iter().filter(|(file, _)| !home.has(file));
        home.lacking = missing.map(|(_, what)| *what).collect();
        if !has_list {
            home.lacking.push("devices");
        }
        Ok(home)
    }

    /// Attaches the list of devices of version 2; false where the kernel, or this user, can have none. The settings
    /// that it was made of are no files.
    fn list_devices(&self, home: &mut Home) -> Result<bool, JailError> {
        let is_allowed = |setting: &Setting| setting.file == device_list::ALLOW;
        home.settings.retain(|setting| !is_allowed(setting));
        let allowed = self.settings.iter().filter(|setting| is_allowed(setting));
        match home.cgroups.first() {
            Some(cgroup) => device_list::attach(cgroup, allowed.map(|s| s.value.as_str())),
            None => Ok(false),
        }
    }

    fn make_one(&self, mount: &Path, path: &Path) -> Result<Cgroup, JailError> {
        let mut tries = 0;
        let mut line = loop {
            tries += 1;
            match Cgroup::make_below(mount, path) {
                // The last monitor to end takes the common cgroup with it.
                Err(JailError::CreateDir(_, error))
                    if error.raw_os_error() == Some(Errno::NOENT.raw_os_error())
                        && tries < TRIES => {}
                // Who clears up has taken it for one that was left behind.
                Ok(line) if tries < TRIES && !line.last().is_some_and(Cgroup::is_held) => {}
                made => break made?,
            }
        };
        let asked = self
            .settings
            .iter()
            .filter_map(|s| controller(&s.file).ok());
        match self.version {
            CgroupVersion::V1 => v1::inherit_cpuset(&line)?,
            CgroupVersion::V2 => {
                let wanted: Vec<&str> = CONTROLLERS_V2.into_iter().chain(asked).collect();
                v2::pass_on(&line[..line.len().saturating_sub(1)], &wanted)?;
            }
        }
        line.pop().ok_or(JailError::CgroupHierarchyMissing)
    }

    /// Where they are.
    pub(crate) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let places = self.places.iter();
        places.map(|(mount, path)| mount.join(relative_path(path)))
    }

    /// Removes the cgroups, and the common one if no other monitor is in it. Whoever is still ending is waited for, a
    /// bounded time.
    pub(crate) fn remove(&self) {
        for directory in self.directories() {
            // What cannot be removed is found by `ravelin gc`.
            let _ = remove(&directory);
        }
    }
}

/// Removes a monitor's cgroup, and the common one if no other monitor is in it. Whoever is still ending is waited for, a
/// bounded time.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    let mut tries = 0;
    let removed = loop {
        tries += 1;
        match fs::remove_dir(directory) {
            Err(error) if is(&error, Errno::BUSY) && tries < TRIES => thread::sleep(PAUSE),
            Err(error) if is(&error, Errno::NOENT) => break Ok(()),
            removed => break removed,
        }
    };
    if let Some(common) = directory.parent().filter(|above| above.ends_with(COMMON)) {
        // It stays where another monitor is in it.
        let _ = fs::remove_dir(common);
    }
    removed
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

impl Home {
    /// What has no bound in these cgroups, though it should: the host, or this user, cannot have it.
    pub(crate) fn lacking(&self) -> &[&'static str] {
        &self.lacking
    }

    /// Version 1: the files to which a thread writes that it comes itself. None in version 2.
    ///
    /// Neither this nor [`Self::birthplace`] makes the kernel wait until no process forks or ends, as the move of another
    /// process does, which takes it some milliseconds.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn doors(&self) -> Result<Vec<OwnedFd>, JailError> {
        let all = self.cgroups.iter();
        let entered = all.filter(|_| self.version == CgroupVersion::V1);
        entered
            .map(|cgroup| cgroup.open_to_write("tasks"))
            .collect()
    }

    /// Version 2: the cgroup that a process is born in.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn birthplace(&self) -> Result<Option<OwnedFd>, JailError> {
        let all = self.cgroups.iter();
        let born_in = all.filter(|_| self.version == CgroupVersion::V2);
        born_in.map(Cgroup::again).next().transpose()
    }

    /// Sets the limits of a VM: its memory and what the monitor needs, its vCPUs and one processor for the rest; and
    /// what the user asks for.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn limit(&self, memory_mib: u64, vcpus: u64) -> Result<(), JailError> {
        let bytes = memory_mib
            .saturating_add(OVERHEAD_MIB)
            .saturating_mul(1 << 20);
        let quota = vcpus.saturating_add(1).saturating_mul(PERIOD_US);
        match self.version {
            CgroupVersion::V1 => {
                self.set("memory.limit_in_bytes", &bytes.to_string())?;
                self.set("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                self.set("cpu.cfs_quota_us", &quota.to_string())?;
            }
            CgroupVersion::V2 => {
                self.set("memory.max", &bytes.to_string())?;
                self.set("cpu.max", &format!("{quota} {PERIOD_US}"))?;
            }
        }
        self.settings
            .iter()
            .try_for_each(|setting| self.set(&setting.file, &setting.value))
    }

    /// Whether one of them has a file.
    fn has(&self, file: &str) -> bool {
        self.cgroups.iter().any(|cgroup| cgroup.has(file))
    }

    /// Writes to a file in the hierarchy that has it. A controller that the host does not have limits nothing: it was
    /// named, and the audit names it too.
    fn set(&self, file: &str, value: &str) -> Result<(), JailError> {
        for cgroup in &self.cgroups {
            if cgroup.has(file) {
                return cgroup.write(file, value);
            }
        }
        match self.settings.iter().any(|setting| setting.file == file) {
            true => Err(JailError::CgroupInvalidFile(file.to_owned())),
            false => Ok(()),
        }
    }
}

/// Whether this host has one hierarchy of cgroups, of version 2, where most have it: a process is born in those, so that
/// they must be there before it is.
pub(crate) fn are_born_in() -> bool {
    statfs("/sys/fs/cgroup").is_ok_and(|found| found.f_type == CGROUP2_SUPER_MAGIC)
}

/// A file of the kernel's, which says it has no length: asked for in small pieces it makes its text anew for each.
fn read_at_once(path: &str) -> Option<String> {
    const USUAL_BYTES: usize = 16 << 10;
    let mut text = String::with_capacity(USUAL_BYTES);
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// This process's cgroup in a hierarchy of version 1.
fn own_v1(own: &str, mount: &Mount) -> PathBuf {
    let lines = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let of_mount = |names: &str| {
        names
            .split(',')
            .any(|name| !name.is_empty() && mount.has(name))
    };
    let path = lines.into_iter().find(|(names, _)| of_mount(names));
    relative(path.map_or("", |(_, path)| path))
}

/// The cgroup above this process's in version 2: one that has processes passes nothing on.
fn beside_v2(own: &str) -> PathBuf {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"));
    let path = relative(path.unwrap_or_default());
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn relative(path: &str) -> PathBuf {
    PathBuf::from(path.trim_start_matches('/'))
}

/// The path as one below a mount.
fn relative_path(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitors_cgroup_is_known_by_the_one_above_it() {
        let places = |parent| Site::find(parent, "web.7", Vec::new()).map(|site| site.places);
        let Some(asked) = places(Some(Path::new("/a/b"))) else {
            eprintln!("SKIPPED: this host has no cgroups");
            return;
        };
        for (_, path) in &asked {
            assert_eq!(path, Path::new("a/b/ravelin.vms/web.7"));
        }
        for (_, path) in &places(None).unwrap() {
            assert!(path.ends_with("ravelin.vms/web.7"), "{path:?}");
        }
    }

    #[test]
    fn a_vm_lives_near_its_callers_cgroup() {
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/user.slice/shell.scope\n";
        let mount = |options| Mount::read(&format!("cgroup /m cgroup rw,{options} 0 0")).unwrap();
        assert_eq!(own_v1(own, &mount("memory")), Path::new("a/b"));
        assert_eq!(own_v1(own, &mount("cpu,cpuacct")), Path::new("c"));
        assert_eq!(own_v1(own, &mount("pids")), Path::new(""));
        assert_eq!(beside_v2(own), Path::new("user.slice"));
        assert_eq!(beside_v2("0::/\n"), Path::new(""));
    }
}

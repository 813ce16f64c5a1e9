//! The running VMs of this user, as one file each: how `ravelin ps` and `ravelin ctl` find them.

mod directory;
mod entry;
mod leftover;
mod note;
pub(crate) mod process;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use self::directory::DirectoryError;
use self::entry::{Found, SUFFIX, Stale};
pub(crate) use self::entry::{Vm, VmImage};
pub(crate) use self::note::Note;
use crate::remnant::{Fate, Remnant};

/// How often a name that seems taken is tried: somebody may just be looking at a file that was left behind.
const TRIES: u32 = 10;
/// How long after that it is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a VM cannot be entered, or not be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file in it.
    #[error("the running VMs in {0} cannot be read or written")]
    File(PathBuf, #[source] io::Error),
    /// Two VMs with one name could not be told apart.
    #[error("a VM with the name `{0}` runs already (process {1}): choose another --name")]
    Taken(String, u32),
    /// No such VM.
    #[error("no VM with the name `{name}` runs: {others}")]
    NoSuchVm {
        /// The name.
        name: String,
        /// Which there are, as a sentence.
        others: String,
    },
}

/// The running VMs of a user.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    directory: PathBuf,
}

/// A VM's place among those that run. Dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Locked for as long as the VM runs.
    file: File,
    path: PathBuf,
    /// The socket, where it stands beside the file and so is ours to remove.
    socket: Option<PathBuf>,
}

/// What this process's VM is made of, as far as its command line says so: a kernel, an image. Written once, before the
/// VM is entered, by whoever reads the command line; who enters it has no other way to know.
static ORIGIN: OnceLock<(Option<String>, Option<VmImage>)> = OnceLock::new();

/// Says what this process's VM is made of.
pub(crate) fn say_origin(kernel: Option<String>, image: Option<VmImage>) {
    let _ = ORIGIN.set((kernel, image));
}

/// A VM that the process `pid` is the monitor of, as of now.
pub(crate) fn vm_of(pid: u32, name: &str, socket: Option<&Path>, kernel: Option<&str>) -> Vm {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let origin = ORIGIN.get_or_init(Default::default);
    Vm {
        name: name.to_owned(),
        pid,
        // Without /proc nobody can find the process by it, which `ctl stop --force` then says.
        pid_start: process::start_time(pid).unwrap_or_default(),
        warden: Some(std::process::id()).filter(|own| *own != pid),
        socket: socket.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned())),
        kernel: kernel.map(str::to_owned).or_else(|| origin.0.clone()),
        image: origin.1.clone(),
        started_at: now.unwrap_or_default().as_secs(),
    }
}

impl Registry {
    /// The running VMs of the user that this process belongs to.
    pub(crate) fn of_this_user() -> Self {
        Self {
            directory: directory::path(),
        }
    }

    /// Where the socket of a VM is that names no other place. The directory is made if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be made or is not this user's alone.
    pub(crate) fn socket(&self, name: &str) -> Result<PathBuf, RegistryError> {
        directory::make(&self.directory)?;
        Ok(self.socket_path(name))
    }

    fn socket_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.sock"))
    }

    /// Enters a VM **before its socket is bound**: then its name is its own, and a socket that an earlier VM
    /// of this name has left behind in the directory is removed.
    ///
    /// # Errors
    /// When a VM of that name runs, or the directory cannot be used.
    pub(crate) fn enter(&self, vm: &Vm) -> Result<Registration, RegistryError> {
        directory::make(&self.directory)?;
        let path = self.directory.join(format!("{}{SUFFIX}", vm.name));
        let failed = |error| RegistryError::File(self.directory.clone(), error);
        let mut text = serde_json::to_vec(vm).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let mut holder = None;
        for _ in 0..TRIES {
            if let Some(file) = self.publish(&vm.name, &text, &path).map_err(failed)? {
                return Ok(self.registration(file, path, vm));
            }
            match entry::look(&path).map_err(failed)? {
                Found::Stale(stale) => self.supersede(&vm.name, stale).map_err(failed)?,
                Found::Live(other) => holder = Some(other.pid),
                Found::Foreign(_) | Found::Nothing => {}
            }
            thread::sleep(PAUSE);
        }
        match holder {
            Some(pid) => Err(RegistryError::Taken(vm.name.clone(), pid)),
            None => Err(failed(ErrorKind::AlreadyExists.into())),
        }
    }

    /// Removes what the VM before of this name has left behind. Its monitor may just be ending, and serve its socket
    /// until then.
    fn supersede(&self, name: &str, stale: Stale) -> io::Result<()> {
        let is_served = |remnant: &Remnant| matches!(remnant.fate, Fate::Stays(_));
        if self
            .clear_sockets(name, &stale, false)
            .iter()
            .any(is_served)
        {
            vmm::host::await_ending();
            self.clear_sockets(name, &stale, false);
        }
        stale.remove()
    }

    /// Writes a file, complete and locked before it has its name; `None` when the name is taken.
    fn publish(&self, name: &str, text: &[u8], path: &Path) -> io::Result<Option<File>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let draft = self
            .directory
            .join(format!(".{name}.{}.{count}", std::process::id()));
        // Left by a process with our number.
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.lock()?;
        let linked = file
            .write_all(text)
            .and_then(|()| fs::hard_link(&draft, path));
        let removed = fs::remove_file(&draft);
        match linked {
            Ok(()) => removed.map(|()| Some(file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            // Who clears up was quicker than the lock, and has taken it for one that was left behind.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn registration(&self, file: File, path: PathBuf, vm: &Vm) -> Registration {
        let ours = self.socket_path(&vm.name);
        let socket = vm.socket.clone().filter(|socket| *socket == ours);
        if let Some(socket) = &socket {
            // Whoever served it is gone: its name was free.
            let _ = fs::remove_file(socket);
        }
        Registration { file, path, socket }
    }

    /// The VMs that run, by name. What those that ended otherwise have left behind is removed, where the directory is
    /// this user's alone.
    ///
    /// # Errors
    /// When the directory cannot be read; that it is not there means that there are none.
    pub(crate) fn list(&self) -> Result<Vec<Vm>, RegistryError> {
        let clear = self.check().is_ok().then_some(false);
        let mut vms = self.see(clear)?.vms;
        vms.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(vms)
    }

    /// Whether the directory is this user's alone.
    fn check(&self) -> Result<(), DirectoryError> {
        directory::check(&self.directory, rustix::process::geteuid().as_raw())
    }

    /// The VM of a name.
    ///
    /// # Errors
    /// When there is none: with the names that there are.
    pub(crate) fn find(&self, name: &str) -> Result<Vm, RegistryError> {
        let vms = self.list()?;
        if let Some(vm) = vms.iter().find(|vm| vm.name == name) {
            return Ok(vm.clone());
        }
        let names: Vec<_> = vms.iter().map(|vm| format!("`{}`", vm.name)).collect();
        let others = match names.as_slice() {
            [] => "this user has none; one that was started elsewhere is reached with --sock PATH"
                .to_owned(),
            [only] => format!("there is {only}"),
            names => format!("there are {}", names.join(", ")),
        };
        Err(RegistryError::NoSuchVm {
            name: name.to_owned(),
            others,
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !entry::is_at(&self.file, &self.path) {
            return;
        }
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
        // Last: the name is free from here on.
        let _ = fs::remove_file(&self.path);
    }
}

/// The name in an entry's file name. What is still being written begins with a dot.
fn entry_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(SUFFIX)?;
    (!name.starts_with('.')).then(|| name.to_owned())
}

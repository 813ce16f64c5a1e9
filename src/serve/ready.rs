//! Readiness without polling: a word to whoever started the process, once the socket accepts.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::warden::warden;

/// Who is told that the VM is ready, and that it stops.
///
/// Everything is opened when the value is made, so that a process that may open nothing more can still
/// speak. That is why it is not the `sd-notify` crate, which opens a socket for each word.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// The descriptor of `--ready-fd`: it gets a line, and is then closed.
    fd: Option<OwnedFd>,
    /// The service manager's socket (`sd_notify(3)`).
    service: Option<UnixDatagram>,
}

impl Ready {
    /// Whoever has `fd`, and the service manager that this process's environment names.
    ///
    /// # Errors
    /// When the environment names a socket that cannot be reached.
    pub(crate) fn new(fd: Option<OwnedFd>) -> io::Result<Self> {
        let service = env::var_os("NOTIFY_SOCKET")
            .filter(|name| !name.is_empty())
            .map(|name| connect(&name));
        Ok(Self {
            fd,
            service: service.transpose()?,
        })
    }

    /// Says that the socket accepts. Whoever does not listen any more stops nothing.
    pub(crate) fn announce(&mut self) {
        if let Some(warden) = warden() {
            return warden.ready();
        }
        if let Some(fd) = self.fd.take()
            && let Err(error) = File::from(fd).write_all(b"ready\n")
        {
            log::warn!("nobody was told on --ready-fd that the socket accepts: {error}");
        }
        self.tell("READY=1");
    }

    /// Says that the VM stops.
    pub(crate) fn stopping(&self) {
        if let Some(warden) = warden() {
            return warden.stopping();
        }
        self.tell("STOPPING=1");
    }

    fn tell(&self, word: &str) {
        if let Some(service) = &self.service
            && let Err(error) = service.send(word.as_bytes())
        {
            log::warn!("the service manager was not told {word}: {error}");
        }
    }
}

/// The service manager's socket: a path, or a name in the abstract space after an `@` (`sd_notify(3)`).
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold the VM.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_service_manager_hears_that_the_vm_is_ready_and_that_it_stops() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut ready = Ready {
            fd: None,
            service: Some(connect(path.as_os_str()).unwrap()),
        };
        ready.announce();
        ready.stopping();
        let mut buffer = [0; 64];
        for word in ["READY=1", "STOPPING=1"] {
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], word.as_bytes());
        }
    }

    #[test]
    fn a_name_after_an_at_sign_is_abstract() {
        let name = format!("ravelin-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect(OsStr::new(&format!("@{name}"))).unwrap();
        socket.send(b"x").unwrap();
        assert_eq!(manager.recv(&mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn the_descriptor_gets_a_line_and_is_closed() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut ready = Ready {
            fd: Some(writer.into()),
            service: None,
        };
        ready.announce();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ready\n");
    }
}

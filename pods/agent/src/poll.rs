//! A descriptor that is read and written as it becomes ready: a pipe, a terminal, a connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::io::unix::AsyncFd;

/// One that does not block.
pub(crate) struct Pollable(AsyncFd<OwnedFd>);

impl Pollable {
    /// Makes it one that does not block.
    ///
    /// # Errors
    ///
    /// The kernel cannot wait for it.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(crate::raw::register(fd)?))
    }

    /// What is there now; none if nothing is, 0 at the end. A terminal that nobody holds any more is at its end.
    pub(crate) fn try_read(&self, piece: &mut [u8]) -> Option<io::Result<usize>> {
        loop {
            return match rustix::io::read(self.0.get_ref(), &mut *piece) {
                Ok(count) => Some(Ok(count)),
                Err(Errno::AGAIN) => None,
                Err(Errno::IO) => Some(Ok(0)),
                Err(Errno::INTR) => continue,
                Err(error) => Some(Err(error.into())),
            };
        }
    }

    /// Waits until there may be something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        // Whoever waits has found nothing there: what comes from now on is new.
        guard.clear_ready();
        Ok(())
    }

    /// Reads; 0 at the end.
    pub(crate) async fn read(&self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.readable().await?;
            match self.try_read(piece) {
                Some(result) => return result,
                None => guard.clear_ready(),
            }
        }
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.0.writable().await?;
            match rustix::io::write(self.0.get_ref(), bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Says to the other side of a connection that nothing more comes.
    pub(crate) fn end(&self) {
        // It is gone, and needs no telling.
        let _ = shutdown(self.0.get_ref(), Shutdown::Write);
    }
}

impl AsFd for Pollable {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

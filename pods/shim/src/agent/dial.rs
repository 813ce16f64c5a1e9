//! The ways to the agent: through the monitor's socket to a port of the guest's, and the guest's own first call.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::stream::{self, Stream};
use rustix::fs::Mode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// The longest answer of a monitor: `OK 4294967295\n`.
const LONGEST_OK: usize = 32;

/// A way that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The monitor's socket.
    #[error("the monitor's socket {0} cannot be used: {1}")]
    Socket(PathBuf, #[source] io::Error),
    /// Nobody in the guest.
    #[error("nobody in the guest answers on port {0}")]
    Nobody(u32),
    /// The agent does not take a stream.
    #[error("the agent in the guest refuses the stream: {0}")]
    Refused(String),
    /// Not in time.
    #[error("the guest did not answer in time")]
    Late,
}

/// Connects to a port of the guest.
///
/// # Errors
/// When nobody is there, or not within `limit`.
pub(crate) async fn dial(
    socket: &Path,
    port: u32,
    limit: Duration,
) -> Result<UnixStream, DialError> {
    let failed = |error| DialError::Socket(socket.to_owned(), error);
    let joined = async {
        let mut stream = UnixStream::connect(socket).await.map_err(failed)?;
        let line = format!("CONNECT {port}\n");
        stream.write_all(line.as_bytes()).await.map_err(failed)?;
        match read_line(&mut stream, LONGEST_OK).await {
            Ok(line) if line.starts_with("OK ") => Ok(stream),
            _ => Err(DialError::Nobody(port)),
        }
    };
    timeout(limit, joined).await.unwrap_or(Err(DialError::Late))
}

/// Connects to a standard stream of a process.
///
/// # Errors
/// When the agent has no such stream, or not within `limit`.
pub(crate) async fn dial_stream(
    socket: &Path,
    whose: &Stream,
    limit: Duration,
) -> Result<UnixStream, DialError> {
    let mut stream = dial(socket, protocol::STREAM_PORT, limit).await?;
    let taken = async {
        let failed = |error| DialError::Socket(socket.to_owned(), error);
        stream
            .write_all(format!("{whose}\n").as_bytes())
            .await
            .map_err(failed)?;
        let line = read_line(&mut stream, 512).await.map_err(failed)?;
        match line.as_bytes() == stream::TAKEN.trim_ascii_end() {
            true => Ok(()),
            false => Err(DialError::Refused(
                line.chars().filter(|c| !c.is_control()).collect(),
            )),
        }
    };
    timeout(limit, taken)
        .await
        .unwrap_or(Err(DialError::Late))?;
    Ok(stream)
}

/// Where the guest calls when its agent answers: the monitor's socket, and the port.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn await_call(socket: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let mut path = socket.as_os_str().to_owned();
    path.push(format!("_{}", protocol::READY_PORT));
    let path = PathBuf::from(path);
    let listener = UnixListener::bind(&path)?;
    rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
    Ok((listener, path))
}

/// Waits for the end of the connection that an agent keeps open: it carries nothing, so a byte is the end too.
pub(crate) async fn hung_up(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0]).await;
}

/// A line without its end, byte by byte: what follows it is somebody else's.
async fn read_line(stream: &mut UnixStream, most: usize) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            _ if line.len() >= most => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
}

//! The agent's sockets: requests on one, streams on another, and the connection by which the host knows that it is there.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::stream::{self, Stream};
use protocol::{AGENT_PORT, READY_PORT, STREAM_PORT, service};
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener, VsockStream};

use crate::pod::Pod;
use crate::poll::Pollable;
use crate::service::Service;

/// How long a connection may take to say whose stream it is, and how many may be about to.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_UNNAMED: usize = 64;
/// How long the host is left alone after a call that nobody took, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Where streams come in.
enum Listener {
    Vsock(VsockListener),
    Unix(UnixListener),
}

/// Serves the host over vsock until a caller wants the guest to end.
///
/// # Errors
///
/// The guest has no vsock device, or its ports are taken.
pub(crate) async fn vsock(pod: Arc<Pod>) -> io::Result<()> {
    let streams = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, STREAM_PORT))?;
    let address = format!("vsock://{VMADDR_CID_ANY}:{AGENT_PORT}");
    let shutdown = serve(pod, &address, Listener::Vsock(streams)).await?;
    tokio::spawn(be_known());
    shutdown.notified().await;
    Ok(())
}

/// Serves two Unix sockets in a folder, `agent` and `streams`: for trying it out without a guest.
///
/// # Errors
///
/// The sockets cannot be made.
pub(crate) async fn unix(pod: Arc<Pod>, folder: &Path) -> io::Result<()> {
    let streams = UnixListener::bind(folder.join("streams"))?;
    let address = format!("unix://{}", folder.join("agent").display());
    let shutdown = serve(pod, &address, Listener::Unix(streams)).await?;
    shutdown.notified().await;
    Ok(())
}

async fn serve(pod: Arc<Pod>, address: &str, streams: Listener) -> io::Result<Arc<Notify>> {
    let shutdown = Arc::new(Notify::new());
    let answering = Arc::new(Service {
        pod: Arc::clone(&pod),
        shutdown: Arc::clone(&shutdown),
    });
    let mut server = ttrpc::r#async::Server::new()
        .bind(address)
        .map_err(io::Error::other)?
        .register_service(service::create_agent(answering));
    server.start().await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // Dropped, it would stop.
        let _server = server;
        take_streams(&pod, &streams).await;
    });
    Ok(shutdown)
}

/// Lets the host know that requests are answered, for as long as they are: a connection that carries nothing.
async fn be_known() {
    let mut pause = FIRST_PAUSE;
    loop {
        let host = VsockAddr::new(VMADDR_CID_HOST, READY_PORT);
        if let Ok(stream) = VsockStream::connect(host).await
            && let Ok(stream) = Pollable::new(OwnedFd::from(stream))
        {
            pause = FIRST_PAUSE;
            let mut piece = [0; 64];
            // What the host says on it is nothing; its end is the host's, or that of a snapshot.
            while matches!(stream.read(&mut piece).await, Ok(1..)) {}
        }
        // Nobody needs to know: a guest may be used without.
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn take_streams(pod: &Arc<Pod>, listener: &Listener) {
    let unnamed = Arc::new(Semaphore::new(MOST_UNNAMED));
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&unnamed).acquire_owned().await else {
            return;
        };
        let Ok(stream) = listener.accept().await else {
            // Out of descriptors: some are given back as streams end.
            sleep(FIRST_PAUSE).await;
            continue;
        };
        let pod = Arc::clone(pod);
        tokio::spawn(async move {
            // Whoever says nothing in time has gone.
            let _ = timeout(PATIENCE, take_stream(&pod, stream)).await;
            drop(permit);
        });
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Pollable> {
        let stream = match self {
            Self::Vsock(listener) => std::future::poll_fn(|context| listener.poll_accept(context))
                .await?
                .0
                .into(),
            Self::Unix(listener) => OwnedFd::from(listener.accept().await?.0.into_std()?),
        };
        Pollable::new(stream)
    }
}

/// Hears whose stream a connection is, and joins the two.
async fn take_stream(pod: &Pod, connection: Pollable) -> io::Result<()> {
    let line = read_line(&connection).await?;
    let stream = match line.parse::<Stream>() {
        Ok(stream) => stream,
        Err(error) => return refuse(&connection, &error).await,
    };
    if let Err(error) = pod.awaits(&stream) {
        return refuse(&connection, &error).await;
    }
    connection.write_all(stream::TAKEN).await?;
    // Between the two a second connection may have come first: this one is at its end then.
    let _ = pod.connect(&stream, connection);
    Ok(())
}

async fn refuse(connection: &Pollable, error: &impl std::fmt::Display) -> io::Result<()> {
    connection
        .write_all(format!("{error}\n").as_bytes())
        .await?;
    connection.end();
    Ok(())
}

/// Reads a line byte by byte: what stands behind it is the stream's.
async fn read_line(connection: &Pollable) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < stream::LONGEST {
        if connection.read(&mut byte).await? == 0 {
            break;
        }
        if byte == *b"\n" {
            return String::from_utf8(line).map_err(io::Error::other);
        }
        line.extend(byte);
    }
    Err(io::ErrorKind::InvalidData.into())
}

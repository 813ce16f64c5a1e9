//! The shim itself: one process, one thread, containerd's Task service on the socket that it was started with.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::shim_async::{Task, create_task};
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::asynchronous::Server;
use ttrpc::asynchronous::transport::Listener;

use crate::arguments::Arguments;
use crate::events::Events;
use crate::pod::Pod;
use crate::service::Service;
use crate::{Failure, address, journal};
use image::config::Config;

/// Where containerd takes events, in the environment.
const EVENTS: &str = "TTRPC_ADDRESS";
/// What a person hears who starts it.
const NOT_BY_CONTAINERD: &str = "containerd starts this program, and says in TTRPC_ADDRESS where it takes events, which is not set; \
     to run a container: ctr run --runtime io.containerd.ravelin.v2 IMAGE NAME";
/// The service's names: containerd 1.6 and 1.7 ask for the first, later ones for both.
const NAMES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];
/// A thread's stack, bytes: where one is as large as a huge page the kernel may make it one, and all of it is resident.
const STACK: usize = 1 << 20;
/// How long the last answer may take to leave.
const LAST: Duration = Duration::from_millis(200);

/// Serves until containerd says that it is over.
///
/// # Errors
/// What keeps it from serving.
pub(crate) fn serve(arguments: &Arguments) -> Result<(), Failure> {
    journal::begin(&std::env::current_dir()?, arguments.debug);
    // Everything is waited for on this thread; files and waiting REST requests on another one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(STACK)
        .build()?;
    let served = runtime.block_on(run(arguments));
    if let Err(error) = &served {
        log::error!("the shim ends: {error}");
    }
    let _ = fs::remove_file(address::socket(
        &arguments.address,
        &arguments.namespace,
        &arguments.id,
    ));
    served
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let listener = take_socket()?;
    let config = Config::of_this_host()?;
    let events = std::env::var(EVENTS).map_err(|_| NOT_BY_CONTAINERD)?;
    let events = Events::new(&arguments.namespace, events);
    let pod = Pod::new(arguments.clone(), config, events);
    let service: Arc<dyn Task + Send + Sync> = Arc::new(Service::new(pod.clone()));
    let mut server = Server::new().add_listener(Listener::try_from(listener)?);
    for name in NAMES {
        let methods = create_task(Arc::clone(&service));
        server = server.register_service(
            methods
                .into_values()
                .map(|one| (name.to_owned(), one))
                .collect(),
        );
    }
    server.start().await?;
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = pod.over() => {}
        _ = term.recv() => pod.end().await,
        _ = interrupt.recv() => pod.end().await,
    }
    tokio::time::sleep(LAST).await;
    Ok(())
}

/// The socket, from stdin, which becomes nothing: no program that is started later has it.
fn take_socket() -> Result<UnixListener, Failure> {
    let socket: OwnedFd = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(socket.into())
}

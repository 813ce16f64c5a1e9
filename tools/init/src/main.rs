//! The first process of ravelin's guest images: `/init` of the initramfs and `/sbin/init` of the ext4 root.
//!
//! In an initramfs it loads the kernel modules that `/etc/modules-load` lists; if the kernel command line
//! has `root=`, it mounts that and hands over to its init. Otherwise, and as `/sbin/init`, it runs one
//! command or an interactive shell on the console, leaves the exit status with the monitor and powers
//! off. See `cmdline` for the parameters. It prints errors only: a command's output stays the only output of
//! a quiet guest.

use std::process::ExitCode;

use guest_init::cmdline::Options;
use guest_init::power::Ending;
use guest_init::{kmsg, modules, mounts, net, power, root, session, supervise};

/// What stops the first process before it can run anything.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    #[error("cannot read /proc/cmdline: {0}")]
    Cmdline(std::io::Error),
    #[error(transparent)]
    Root(#[from] root::RootError),
    #[error(transparent)]
    Supervise(#[from] supervise::SuperviseError),
}

fn main() -> ExitCode {
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        return session::main(std::env::args_os().skip(1));
    }
    let ending = boot().unwrap_or_else(|error| {
        kmsg::error(&error);
        Ending::PowerOff { status: 1 }
    });
    power::end(ending)
}

/// Brings the guest up, runs what it is there for and says how it shall end.
fn boot() -> Result<Ending, InitError> {
    mounts::mount_kernel_views()?;
    let line = std::fs::read_to_string("/proc/cmdline").map_err(InitError::Cmdline)?;
    let options = Options::parse(&line);
    modules::load_listed();
    if let (Some(device), true) = (&options.root, mounts::root_is_initramfs()) {
        match root::switch(device, &options)? {}
    }
    mounts::mount_scratch();
    if let Err(error) = rustix::system::sethostname(b"ravelin") {
        kmsg::error(&format_args!("cannot set the host name: {error}"));
    }
    net::configure(options.ip);
    Ok(supervise::run(&options)?)
}

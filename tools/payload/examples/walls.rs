//! What a jail's walls cost the kernel at least: a process that waits, alone, in seven namespaces of its own, or outside of
//! them with a second one inside, which shares all of its pages.
//!
//! `walls alone|inside|seven`: says `ready`, and waits until it is killed; the second process goes with the first.

#![expect(
    unsafe_code,
    reason = "a process is made by a call that has no safe face"
)]

use std::error::Error;
use std::{env, thread};

const SEVEN: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("alone") => {}
        Some("inside") => enter()?,
        Some("seven") => double()?,
        _ => return Err("usage: walls alone|inside|seven".into()),
    }
    // With two of them it is the second: it goes with the first from now on.
    println!("ready");
    wait()
}

/// Enters seven namespaces, as unshare(2) does: no second process is there.
fn enter() -> Result<(), Box<dyn Error>> {
    // SAFETY: the call takes no pointer.
    match unsafe { libc::unshare(SEVEN) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Makes the second process, as fork(2) does, in namespaces of its own.
fn double() -> Result<(), Box<dyn Error>> {
    // SAFETY: without a stack of its own the child goes on with a copy of this one's; no thread but this one is there.
    let pid = unsafe { libc::syscall(libc::SYS_clone, SEVEN | libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        0 => {
            // SAFETY: the call takes no pointer.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        }
        1.. => wait(),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

fn wait() -> ! {
    loop {
        thread::park();
    }
}

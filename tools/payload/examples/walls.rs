//! What a jail's walls cost the kernel at least: a process that waits, alone or with a second one in seven namespaces of
//! its own, which shares all of its pages.
//!
//! `walls alone|seven`: says `ready`, and waits until it is killed; the second process goes with the first.

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
        Some("seven") => double()?,
        _ => return Err("usage: walls alone|seven".into()),
    }
    println!("ready");
    wait()
}

/// Makes the second process, as fork(2) does, in namespaces of its own.
fn double() -> Result<(), Box<dyn Error>> {
    // SAFETY: without a stack of its own the child goes on with a copy of this one's; no thread but this one is there.
    let pid = unsafe { libc::syscall(libc::SYS_clone, SEVEN | libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        0 => {
            // SAFETY: the call takes no pointer.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            wait()
        }
        1.. => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

fn wait() -> ! {
    loop {
        thread::park();
    }
}

//! A red team inside the monitor, for tests alone: any of its threads attacks, on a signal, as one would that has
//! fallen to the guest.
//!
//! The test hands in, as stderr, a file whose first page is shared memory ([`page::Page`]): it writes there which attack
//! is meant, signals a thread, and reads what came of it. To report needs no system call, so it works behind any filter.
#![expect(
    unsafe_code,
    reason = "a signal handler, and memory that is shared with the test"
)]

mod call;
mod files;
mod itself;
mod kernel;
mod network;
mod page;
mod processes;

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicPtr, Ordering};

use self::page::Page;

/// An attack.
struct Attack {
    /// What the test calls it.
    name: &'static str,
    /// Makes it, and puts everything back as it was.
    act: fn(&Page) -> Result<usize, i32>,
    /// The errors that a caller gets only when no wall has stopped it: its arguments are harmless, so they are wrong.
    past: &'static [i32],
}

impl Attack {
    /// One that gets through when it succeeds.
    const fn new(name: &'static str, act: fn(&Page) -> Result<usize, i32>) -> Self {
        Self::past(name, act, &[])
    }

    /// One that has got through, too, when it fails for its arguments.
    const fn past(
        name: &'static str,
        act: fn(&Page) -> Result<usize, i32>,
        past: &'static [i32],
    ) -> Self {
        Self { name, act, past }
    }
}

/// All that there are.
const ATTACKS: [&[Attack]; 5] = [
    files::ATTACKS,
    network::ATTACKS,
    processes::ATTACKS,
    kernel::ATTACKS,
    itself::ATTACKS,
];

/// The program that one without rights starts to get some: it has its owner's by a set-user-ID bit.
const GAIN: &str = "set-uid";

/// The page, once this process is armed.
static PAGE: AtomicPtr<Page> = AtomicPtr::new(std::ptr::null_mut());

/// Has this process attack when it is told, if the test has handed in the page. Ends the process if it is the one that
/// an attack has started.
pub(crate) fn arm() {
    if std::env::args_os()
        .next()
        .is_some_and(|name| name.as_bytes() == GAIN.as_bytes())
    {
        let is_root = call::call(libc::SYS_geteuid, []) == Ok(0);
        std::process::exit(i32::from(!is_root));
    }
    let Some(page) = page::find() else {
        return;
    };
    PAGE.store(std::ptr::from_ref(page).cast_mut(), Ordering::Release);
    let handler: extern "C" fn(libc::c_int) = hear;
    // SAFETY: a sigaction is whole when all of it is 0.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler makes system calls and touches the page and its own stack, nothing else.
    unsafe { libc::sigaction(page::signal(), &raw const action, std::ptr::null_mut()) };
    let count = ATTACKS.iter().map(|group| group.len()).sum::<usize>();
    page.arm(u32::try_from(count).unwrap_or_default());
}

extern "C" fn hear(_: libc::c_int) {
    // SAFETY: it is null, or a page that stays mapped as long as the process lives.
    let Some(page) = (unsafe { PAGE.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    let errno = call::errno();
    attack(page);
    call::set_errno(errno);
}

fn attack(page: &Page) {
    let name = page.begin();
    let mut all = ATTACKS.iter().flat_map(|group| group.iter());
    let Some(attack) = all.find(|attack| attack.name.as_bytes() == name.as_slice()) else {
        page.unknown();
        return;
    };
    match (attack.act)(page) {
        Ok(_) => page.through(0),
        Err(error) if attack.past.contains(&error) => page.through(error),
        Err(error) => page.stopped(error),
    }
}

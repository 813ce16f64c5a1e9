//! Attacks on what all processes of a host share: the kernel's own tables, clock, keys, log and ports.

use libc::{EBADF, EINVAL, ENOKEY};

use super::Attack;
use super::call::{MINUS_ONE, call, closed, flag, input, output, text};
use super::page::Page;

/// The key of the test's shared memory.
const SHARED_KEY: usize = 0x7261_7665;
/// What the test calls its host.
const HOST_NAME: &[u8] = b"redteam-host\0";

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("bpf", bpf),
    Attack::new("perf", |_| perf(1 << 5 | 1 << 6)),
    Attack::new("perf-kernel", |_| perf(0)),
    Attack::new("userfaultfd", |_| userfaultfd(0)),
    Attack::new("userfaultfd-user", |_| userfaultfd(1)),
    Attack::new("io-uring", io_uring),
    Attack::past(
        "keyctl",
        |_| call(libc::SYS_keyctl, [0, flag(-3), 0]),
        &[ENOKEY],
    ),
    Attack::new("add-key", add_key),
    Attack::new("shmget", shmget),
    Attack::new("see-shared-memory", |_| {
        call(libc::SYS_shmget, [SHARED_KEY, 1, 0])
    }),
    Attack::past("syslog", |_| call(libc::SYS_syslog, [8, 0, 0]), &[EINVAL]),
    // A flag that there is not: nothing is loaded, and nothing unloaded.
    Attack::past(
        "kexec-load",
        |_| call(libc::SYS_kexec_load, [0, 0, 0, 0x8000]),
        &[EINVAL],
    ),
    Attack::past("load-module", load_module, &[EBADF]),
    // Without the magic numbers no kernel does it.
    Attack::past(
        "reboot",
        |_| call(libc::SYS_reboot, [0, 0, 0, 0]),
        &[EINVAL],
    ),
    Attack::new("see-host-name", see_host_name),
    Attack::new("set-host-name", set_host_name),
    // To no time and no zone.
    Attack::new("set-time", |_| call(libc::SYS_settimeofday, [0, 0])),
    Attack::new("iopl", iopl),
    Attack::new("ioperm", ioperm),
    Attack::new("modify-ldt", modify_ldt),
    Attack::new("personality", personality),
];

/// A map of one number.
fn bpf(_: &Page) -> Result<usize, i32> {
    const MAP_CREATE: usize = 0;
    let mut attributes = [0_u32; 18];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    call(
        libc::SYS_bpf,
        [MAP_CREATE, input(&attributes), size_of_val(&attributes)],
    )
    .and_then(closed)
}

/// A counter of nothing, for this thread; with these bits it leaves out the kernel.
fn perf(bits: u64) -> Result<usize, i32> {
    let mut attributes = [0_u64; 16];
    // Software, 128 bytes; the dummy event.
    (attributes[0], attributes[1], attributes[5]) = (1 | 128 << 32, 9, bits);
    let arguments = [input(&attributes), 0, MINUS_ONE, MINUS_ONE, 0];
    call(libc::SYS_perf_event_open, arguments).and_then(closed)
}

fn userfaultfd(flags: usize) -> Result<usize, i32> {
    call(libc::SYS_userfaultfd, [flags | flag(libc::O_CLOEXEC)]).and_then(closed)
}

fn io_uring(_: &Page) -> Result<usize, i32> {
    let mut parameters = [0_u64; 15];
    call(libc::SYS_io_uring_setup, [1, output(&mut parameters)]).and_then(closed)
}

/// To a keyring that ends with the thread.
fn add_key(_: &Page) -> Result<usize, i32> {
    let (kind, name) = (text(c"user"), text(c"ravelin-redteam"));
    call(libc::SYS_add_key, [kind, name, name, 1, MINUS_ONE])
}

fn shmget(_: &Page) -> Result<usize, i32> {
    let id = call(libc::SYS_shmget, [0, 4096, 0o600])?;
    call(libc::SYS_shmctl, [id, flag(libc::IPC_RMID), 0])
}

fn load_module(_: &Page) -> Result<usize, i32> {
    call(libc::SYS_finit_module, [MINUS_ONE, text(c""), 0])
}

/// The name of the host, as uname(2) gives it: the second of six fields.
fn host_name() -> Result<[u8; 65], i32> {
    let mut fields = [[0_u8; 65]; 6];
    call(libc::SYS_uname, [output(&mut fields)])?;
    Ok(fields[1])
}

fn see_host_name(_: &Page) -> Result<usize, i32> {
    match host_name()?.starts_with(HOST_NAME) {
        true => Ok(0),
        false => Err(libc::ENOENT),
    }
}

/// To what it is.
fn set_host_name(_: &Page) -> Result<usize, i32> {
    let name = host_name()?;
    let length = name.iter().position(|byte| *byte == 0).unwrap_or_default();
    call(libc::SYS_sethostname, [input(&name), length])
}

fn iopl(_: &Page) -> Result<usize, i32> {
    call(libc::SYS_iopl, [3])?;
    call(libc::SYS_iopl, [0])
}

/// The port of the power-on self-test.
fn ioperm(_: &Page) -> Result<usize, i32> {
    call(libc::SYS_ioperm, [0x80, 1, 1])?;
    call(libc::SYS_ioperm, [0x80, 1, 0])
}

/// The table is read.
fn modify_ldt(_: &Page) -> Result<usize, i32> {
    let mut space = [0_u64; 2];
    call(
        libc::SYS_modify_ldt,
        [0, output(&mut space), size_of_val(&space)],
    )
}

/// Addresses that are not random, and back.
fn personality(_: &Page) -> Result<usize, i32> {
    const UNCHANGED: usize = 0xffff_ffff;
    let now = call(libc::SYS_personality, [UNCHANGED])?;
    call(libc::SYS_personality, [now | flag(libc::ADDR_NO_RANDOMIZE)])?;
    call(libc::SYS_personality, [now])
}

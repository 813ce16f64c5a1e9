//! The kernel's programs at a cgroup (bpf(2)): one is loaded and attached, and those that are there are read back.
#![expect(
    unsafe_code,
    reason = "bpf(2) has no safe wrapper, and its libraries are for programs that a compiler has made"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An instruction (Linux `uapi/linux/bpf.h`, `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u8,
    /// The target in the low four bits, the source in the others.
    pub(super) registers: u8,
    /// How far a jump goes, or where a load starts.
    pub(super) offset: i16,
    pub(super) value: i32,
}

// Of `enum bpf_cmd`.
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`, a place to attach to.
const CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: programs of cgroups above, and others of this one, are asked too, and all must allow.
const ALLOW_MULTI: u32 = 2;
/// `BPF_F_QUERY_EFFECTIVE`: also those of cgroups above.
const QUERY_EFFECTIVE: u32 = 1;
/// How many programs and instructions are read back; more are not ravelin's.
const PROGRAMS: usize = 64;
const INSTRUCTIONS: usize = 64;

/// Loads a program that decides on devices, and attaches it to a cgroup, with which it goes.
///
/// # Errors
/// EPERM without the right (CAP_BPF and CAP_NET_ADMIN), EINVAL or ENOSYS where the kernel has no such programs.
pub(super) fn attach(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 4],
        kernel: u32,
        flags: u32,
        name: [u8; 16],
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let license = c"Apache-2.0";
    let loaded = call(
        PROG_LOAD,
        &mut Load {
            kind: TYPE_CGROUP_DEVICE,
            count: u32::try_from(program.len()).map_err(io::Error::other)?,
            instructions: address(program.as_ptr()),
            license: address(license.as_ptr()),
            log: [0; 4],
            kernel: 0,
            flags: 0,
            name: *b"ravelin_devices\0",
        },
    )?;
    let program = owned(loaded);
    call(
        PROG_ATTACH,
        &mut Attach {
            target: number(cgroup),
            program: number(program.as_fd()),
            kind: CGROUP_DEVICE,
            flags: ALLOW_MULTI,
        },
    )?;
    Ok(())
}

/// The programs that decide on the devices of a cgroup: the number of each, and its instructions.
///
/// # Errors
/// EPERM without the right (CAP_SYS_ADMIN), EINVAL where the kernel has no such programs.
pub(super) fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<(u32, Vec<Instruction>)>> {
    #[repr(C)]
    struct Query {
        target: u32,
        kind: u32,
        flags: u32,
        attached_with: u32,
        ids: u64,
        count: u32,
        none: u32,
    }
    let mut ids = [0_u32; PROGRAMS];
    let mut query = Query {
        target: number(cgroup),
        kind: CGROUP_DEVICE,
        flags: QUERY_EFFECTIVE,
        attached_with: 0,
        ids: address(ids.as_mut_ptr()),
        count: u32::try_from(PROGRAMS).map_err(io::Error::other)?,
        none: 0,
    };
    call(PROG_QUERY, &mut query)?;
    let found = usize::try_from(query.count).map_err(io::Error::other)?;
    let ids = ids.iter().take(found);
    ids.map(|id| Ok((*id, instructions(*id)?))).collect()
}

/// The instructions of a program, as the kernel has them.
fn instructions(id: u32) -> io::Result<Vec<Instruction>> {
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Info {
        kind: u32,
        id: u32,
        tag: u64,
        machine_length: u32,
        length: u32,
        machine_code: u64,
        instructions: u64,
    }
    #[repr(C)]
    struct Get {
        program: u32,
        length: u32,
        info: u64,
    }
    let opened = call(
        PROG_GET_FD_BY_ID,
        &mut ById {
            id,
            next: 0,
            flags: 0,
        },
    )?;
    let program = owned(opened);
    let mut code = [Instruction::default(); INSTRUCTIONS];
    let mut info = Info {
        kind: 0,
        id: 0,
        tag: 0,
        machine_length: 0,
        length: u32::try_from(size_of_val(&code)).map_err(io::Error::other)?,
        machine_code: 0,
        instructions: address(code.as_mut_ptr()),
    };
    let length = u32::try_from(size_of::<Info>()).map_err(io::Error::other)?;
    let mut get = Get {
        program: number(program.as_fd()),
        length,
        info: address(&raw mut info),
    };
    call(OBJ_GET_INFO_BY_FD, &mut get)?;
    let bytes = usize::try_from(info.length).map_err(io::Error::other)?;
    let count = bytes / size_of::<Instruction>();
    match code.get(..count) {
        // Where the kernel hides them it leaves nothing behind the address.
        Some(code) if info.instructions != 0 => Ok(code.to_vec()),
        _ => Err(io::Error::other("its instructions cannot be read")),
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(place: *const T) -> u64 {
    place.addr() as u64
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: the kernel has just opened it, for us (`call` was successful).
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// One bpf(2). What it is asked for begins as `union bpf_attr` does for that command; the kernel takes the rest as 0.
fn call<T>(command: libc::c_long, asked: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `asked` has the size that is said, and each address in it is that of a value of its caller's, which
    // outlives the call and is as large as is said beside it.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *asked, size_of::<T>()) };
    match i32::try_from(done) {
        Ok(done) if done >= 0 => Ok(done),
        _ => Err(io::Error::last_os_error()),
    }
}

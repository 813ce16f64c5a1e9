//! What a monitor in its cell asks of its warden, and the answers: a JSON object a packet, with a descriptor beside an
//! answer that has one.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmm::kvm::CpuidRow;

/// The longest packet: a path of 4,096 bytes, each at most 4 long as JSON, and some.
const LONGEST: usize = 20 << 10;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A file, as by `open(2)`.
    Open {
        path: OsString,
        flags: u32,
        mode: u32,
    },
    /// A tap; an MTU of 0 is the one that it has.
    Tap { name: String, mtu: u16 },
    /// A socket that listens at this path, for the VM's vsock device.
    Listen { path: OsString },
    /// A line for connections to this path, `_`, and a port.
    Line { path: OsString },
    /// The socket that was made for the API.
    Socket,
    /// That the API accepts.
    Ready,
    /// That the VM stops.
    Stopping,
    /// Why KVM refuses, as the host's examination finds.
    Explain,
    /// To look at the cell meanwhile: no other question comes soon, and this one has no answer.
    Look,
    /// To set the limits of what a VM needs, and to look at what the monitor holds: everything is open, and every thread
    /// there. This one has no answer either.
    Complete(Needs),
    /// To wait for the end of monitors that are just ending.
    Endings,
    /// That the guest may run, with what it needs of the host.
    Run(Needs),
}

/// What a VM needs of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// Guest memory in MiB.
    pub(crate) memory_mib: u64,
    /// Its vCPUs.
    pub(crate) vcpus: u64,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Done; what was opened lies beside it.
    Done,
    /// Said before anything is asked: what KVM supports of processors; its device lies beside it.
    Kvm(Vec<CpuidRow>),
    /// A sentence that was asked for, if there is one.
    Sentence(Option<String>),
    /// An error of the kernel's.
    Errno(i32),
    /// Refused, with a sentence.
    Refused(String),
}

/// Sends a word, and a descriptor beside it.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    word: &impl Serialize,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let text = serde_json::to_vec(word)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&text)],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The next word and what lies beside it; `None` when the other side is gone.
///
/// # Errors
/// Also for what is no word.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let length = length(&socket)?;
    if length > LONGEST {
        return Err(Errno::MSGSIZE.into());
    }
    let mut text = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let into = &mut [IoSliceMut::new(&mut text)];
        match recvmsg(&socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            got => break got?,
        }
    };
    let fd = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if got.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&text)?, fd)))
}

/// The length of the next word, which stays where it is: most are a hundred times shorter than the longest. 0 when the other
/// side is gone.
fn length(socket: impl AsFd) -> io::Result<usize> {
    loop {
        let mut beside = RecvAncillaryBuffer::new(&mut []);
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        match recvmsg(&socket, &mut [], &mut beside, flags) {
            Err(Errno::INTR) => {}
            got => return Ok(got?.bytes),
        }
    }
}

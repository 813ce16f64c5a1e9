//! AF_VSOCK for scripts in a guest, since busybox has none.
//!
//! ```text
//! vsock connect PORT        stdin to the host's PORT, what comes back to stdout; the end of stdin is passed on
//! vsock listen PORT         the same for the first who connects to the guest's PORT
//! vsock greet PORT COUNT    COUNT connections to the host, one after the other: each says its number and hears it back
//! vsock echo PORT COUNT     answers COUNT connections from the host, one after the other, with what they say
//! ```
#![expect(
    unsafe_code,
    reason = "no library that is at hand knows the addresses of AF_VSOCK"
)]

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;

/// `VMADDR_CID_HOST` and `VMADDR_CID_ANY` (vsock(7)).
const HOST: u32 = 2;
const ANY: u32 = u32::MAX;
/// What is read at a time, in bytes.
const PIECE: usize = 256 * 1024;
const USAGE: &str = "usage: vsock connect|listen PORT, vsock greet|echo PORT COUNT";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vsock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| io::Error::other(USAGE));
    match words {
        ["connect", port] => join(connect(number(port)?)?),
        ["listen", port] => join(accept(&listen(number(port)?)?)?),
        ["greet", port, count] => (0..number(count)?).try_for_each(|n| greet(number(port)?, n)),
        ["echo", port, count] => {
            let listener = listen(number(port)?)?;
            (0..number(count)?).try_for_each(|_| echo(accept(&listener)?))
        }
        _ => Err(io::Error::other(USAGE)),
    }
}

/// Joins a connection and this process's standard streams.
fn join(stream: UnixStream) -> io::Result<()> {
    let mut up = stream.try_clone()?;
    let sending = thread::spawn(move || {
        copy(&mut io::stdin().lock(), &mut up)?;
        up.shutdown(Shutdown::Write)
    });
    let mut stream = stream;
    copy(&mut stream, &mut io::stdout().lock())?;
    // What was sent was taken, if the other side has read to the end.
    sending.join().map_err(|_| io::Error::other("no end"))?
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return to.flush(),
            Ok(n) => to.write_all(piece.get(..n).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn greet(port: u32, number: u32) -> io::Result<()> {
    let mut stream = connect(port)?;
    let word = number.to_string();
    stream.write_all(word.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    match heard == word {
        true => Ok(()),
        false => Err(io::Error::other(format!("said {word}, heard {heard:?}"))),
    }
}

fn echo(mut stream: UnixStream) -> io::Result<()> {
    let mut heard = stream.try_clone()?;
    copy(&mut heard, &mut stream)?;
    stream.shutdown(Shutdown::Write)
}

fn connect(port: u32) -> io::Result<UnixStream> {
    let socket = socket()?;
    let (address, size) = address(HOST, port);
    // SAFETY: the address lives through the call and has this size.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) };
    checked(result)?;
    // Reading, writing and shutting down are the same for every stream socket.
    Ok(UnixStream::from(socket))
}

fn listen(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let (address, size) = address(ANY, port);
    // SAFETY: as in `connect`.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    checked(result)?;
    // SAFETY: no memory is involved.
    checked(unsafe { libc::listen(socket.as_raw_fd(), 128) })?;
    Ok(socket)
}

fn accept(listener: &OwnedFd) -> io::Result<UnixStream> {
    let nobody = std::ptr::null_mut();
    // SAFETY: nobody asks who it is.
    let fd = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            nobody,
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    };
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { UnixStream::from_raw_fd(checked(fd)?) })
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved.
    let fd = checked(unsafe { libc::socket(libc::AF_VSOCK, kind, 0) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(cid: u32, port: u32) -> (libc::sockaddr_vm, libc::socklen_t) {
    // SAFETY: an address of zeros is one.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).unwrap_or_default();
    address.svm_cid = cid;
    address.svm_port = port;
    let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_vm>()).unwrap_or_default();
    (address, size)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

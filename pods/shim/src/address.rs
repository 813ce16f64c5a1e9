//! Where a shim answers, and where it keeps what is its own: both follow from containerd's socket, the namespace and the
//! container's name, so that whoever comes later finds them without a list.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::arguments::Arguments;

/// Where containerd has the sockets of shims.
const SOCKETS: &str = "/run/containerd/s";
/// Where shims have what is their own: short, for a Unix socket's path holds 107 bytes.
const PODS: &str = "/run/ravelin-pods";

/// The socket of a shim.
pub(crate) fn socket(containerd: &str, namespace: &str, id: &str) -> PathBuf {
    Path::new(SOCKETS).join(digest(containerd, namespace, id))
}

/// The directory of a shim.
pub(crate) fn directory(arguments: &Arguments) -> PathBuf {
    let digest = digest(&arguments.address, &arguments.namespace, &arguments.id);
    Path::new(PODS).join(&digest[..20])
}

/// The name of a shim's VM, for `ravelin ps`: the container's as far as it goes, and eight digits that are its own.
pub(crate) fn vm_name(arguments: &Arguments) -> String {
    let digest = digest(&arguments.address, &arguments.namespace, &arguments.id);
    let id: String = arguments.id.chars().take(48).collect();
    format!("{id}-{}", &digest[..8])
}

/// As containerd's own shims call their sockets.
fn digest(containerd: &str, namespace: &str, id: &str) -> String {
    let path = Path::new(containerd).join(namespace).join(id);
    hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_called_as_containerds_own_shims_call_theirs() {
        let path = socket("/run/containerd/containerd.sock", "default", "123");
        let digest = "0ddfbd72d02b3551e75f3a0ed90b9965b533401be618f43a568bc522764e0ad0";
        assert_eq!(path, Path::new(SOCKETS).join(digest));
    }

    #[test]
    fn the_longest_names_fit_where_they_go() {
        let longest = "f".repeat(76);
        let words = ["-namespace", &longest, "-id", &longest, "-address", "/a"].map(str::to_owned);
        let arguments = Arguments::read(words.into_iter()).unwrap();
        assert!(vm_name(&arguments).len() <= 64);
        assert!(directory(&arguments).join("v_4294967295").as_os_str().len() <= 107);
    }
}

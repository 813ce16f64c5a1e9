//! Who this is: `-info` for containerd, `-v` for people.

use std::io::{self, Write};

use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

/// The runtime's name in containerd.
const NAME: &str = "io.containerd.ravelin.v2";

/// Prints a `RuntimeInfo`, whatever options stand on stdin: there are none that matter.
pub(crate) fn answer() -> io::Result<()> {
    let mut version = RuntimeVersion::new();
    version.version = env!("CARGO_PKG_VERSION").to_owned();
    let mut info = RuntimeInfo::new();
    info.name = NAME.to_owned();
    info.version = Some(version).into();
    let bytes = info.write_to_bytes().map_err(io::Error::other)?;
    io::stdout().write_all(&bytes)
}

/// Prints the version as a line.
pub(crate) fn say_version() -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        io::stdout(),
        "containerd-shim-ravelin-v2 {version}: a container in a microVM, started by containerd ({NAME})"
    )
}

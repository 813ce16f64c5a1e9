//! Code from `proto/agent.proto`; no protoc is needed.

use std::path::PathBuf;

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

/// As a file of its own: the files it names begin with attributes, which no `include!` may.
const MODULES: &str = "/// The messages.\npub mod agent;\n/// The client and the server's trait.\npub mod agent_ttrpc;\n";

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it for build scripts"));
    Codegen::new()
        .out_dir(&out)
        .input("proto/agent.proto")
        .include("proto")
        .rust_protobuf()
        .customize(Customize {
            async_all: true,
            ..Default::default()
        })
        .rust_protobuf_customize(ProtobufCustomize::default())
        .run()?;
    std::fs::write(out.join("modules.rs"), MODULES)
}

//! Links the payload by its own linker script, without start files and without a C library.

fn main() {
    let here = env!("CARGO_MANIFEST_DIR");
    let script = format!("-Wl,-T,{here}/payload.ld");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
        &script,
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=payload.ld");
    println!("cargo:rerun-if-changed=src/entry.s");
}

//! `ravelin-image`: container images as disks. The only program of ravelin's that reads images; `ravelin` runs it.

mod command;

fn main() -> std::process::ExitCode {
    command::main()
}

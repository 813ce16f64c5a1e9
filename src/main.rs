//! The `ravelin` command.
fn main() {}

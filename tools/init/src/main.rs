//! The first process of ravelin's guest images.
fn main() {}

//! ravelin's devices: no KVM, no HTTP, no global state.

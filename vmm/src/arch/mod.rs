//! What differs between processor architectures.
//!
//! # The contract
//! An architecture is one folder here. The rooms above it (`kvm`, `boot`, `machine`) expect:
//!
//! | name | what it gives |
//! | --- | --- |
//! | `layout` | constants: where memory, devices, boot structures and interrupts lie |
//! | `Processors` | made once from the host's capabilities and the vCPU count; `configure(vcpu, start)` puts one vCPU into the state in which it may run |
//! | `Start` | what the first vCPU begins with: entry address, protocol, boot argument |
//! | `write_tables` | the tables the start needs in guest memory (page tables, descriptors) |
//!
//! Nothing in an architecture opens a file, starts a thread or knows a device. A vCPU other than the
//! first is left waiting for the way the architecture starts its processors (on x86: INIT and SIPI).

pub mod x86_64;

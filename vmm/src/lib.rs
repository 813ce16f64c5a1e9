//! The machine: KVM, boot, life cycle.

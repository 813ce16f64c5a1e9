//! Container images for microVMs: taken from archives, directories and registries, made into read-only disks.
//!
//! **Nothing of an image is ever unpacked onto the host**: layers are merged in memory ([`tree`]), and what is in their
//! files goes straight into the disk ([`store`], [`erofs`]). A disk is made once ([`cache`]).

pub mod accounts;
pub mod cache;
pub mod config;
pub mod digest;
pub mod directory;
pub mod erofs;
pub mod layer;
pub mod limits;
pub mod manifest;
pub mod reference;
pub mod registry;
pub mod runtime;
pub mod source;
pub mod store;
pub mod tree;
mod unpack;

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;

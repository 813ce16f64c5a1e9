//! Registries: not written yet.

/// Why a registry gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {}

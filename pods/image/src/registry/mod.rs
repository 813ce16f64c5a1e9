//! Registries: not written yet.

use std::io::Read;

use crate::reference::Reference;
use crate::source::{Part, Source, SourceError, Top};

/// Why a registry gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not there yet.
    #[error("images of registries cannot be taken yet: name an archive or a layout")]
    NotYet,
}

/// A registry.
#[derive(Debug)]
pub struct Registry;

impl Registry {
    /// Opens it.
    ///
    /// # Errors
    /// Always.
    pub fn open(_reference: &Reference) -> Result<Self, RegistryError> {
        Err(RegistryError::NotYet)
    }
}

impl Source for Registry {
    fn top(&self, _limit: usize) -> Result<Top, SourceError> {
        Err(RegistryError::NotYet.into())
    }

    fn open(&self, _part: &Part) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        Err(RegistryError::NotYet.into())
    }
}

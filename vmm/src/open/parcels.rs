//! Descriptors that somebody else has opened and passed in, each under a name.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::OpenError;
use crate::spec::PASSED;

/// How many wait at a time: more than a VM has devices.
const MOST: usize = 32;
/// The longest name: what fits into an interface's name behind the prefix.
const LONGEST: usize = 12;

/// Descriptors that wait to be used.
#[derive(Debug, Default)]
pub struct Parcels(BTreeMap<String, OwnedFd>);

/// Why a descriptor is not kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DepositError {
    /// A name that no path could hold.
    #[error(
        "a descriptor was sent under the name `{0}` and 1 to {LONGEST} letters, digits, `-` and `_` were expected"
    )]
    Name(String),
    /// Too many.
    #[error("{MOST} descriptors wait to be used already: use them first")]
    Full,
}

impl Parcels {
    /// Keeps `fd` under `name`, in place of one of that name.
    ///
    /// # Errors
    /// [`DepositError`]; the descriptor is closed then.
    pub fn deposit(&mut self, name: String, fd: OwnedFd) -> Result<(), DepositError> {
        let fits = (1..=LONGEST).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !fits {
            return Err(DepositError::Name(name));
        }
        if self.0.len() >= MOST && !self.0.contains_key(&name) {
            return Err(DepositError::Full);
        }
        self.0.insert(name, fd);
        Ok(())
    }

    /// A copy of the descriptor that `path` names; `None` for a real path. The original stays until
    /// [`Parcels::spend`], so that a refused request leaves everything as it was.
    ///
    /// # Errors
    /// When there is none of that name, or no copy can be made.
    pub(super) fn copy(&self, path: &Path) -> Result<Option<OwnedFd>, OpenError> {
        let Some(name) = name(path) else {
            return Ok(None);
        };
        let parcel = self.0.get(name);
        let parcel = parcel.ok_or_else(|| OpenError::NoParcel(name.to_owned()))?;
        match parcel.try_clone() {
            Ok(copy) => Ok(Some(copy)),
            Err(reason) => Err(OpenError::Copy {
                name: name.to_owned(),
                reason,
            }),
        }
    }

    /// Gives up the descriptor that `path` names: its copy is in use.
    pub(crate) fn spend(&mut self, path: &Path) {
        if let Some(name) = name(path) {
            self.0.remove(name);
        }
    }
}

/// The name behind the prefix.
fn name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(PASSED)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_descriptor_stays_until_its_copy_is_in_use() {
        let mut parcels = Parcels::default();
        parcels.deposit("disk".to_owned(), null()).unwrap();
        let path = Path::new("fd:disk");
        assert!(parcels.copy(path).unwrap().is_some());
        assert!(parcels.copy(path).unwrap().is_some());
        parcels.spend(path);
        assert!(matches!(parcels.copy(path), Err(OpenError::NoParcel(name)) if name == "disk"));
    }

    #[test]
    fn a_real_path_names_none() {
        assert!(
            Parcels::default()
                .copy(Path::new("/fd:disk"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_name_fits_behind_the_prefix() {
        let mut parcels = Parcels::default();
        for (name, fits) in [
            ("a-b_9", true),
            ("", false),
            ("a/b", false),
            ("thirteen-long", false),
        ] {
            let kept = parcels.deposit(name.to_owned(), null());
            assert_eq!(kept.is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn no_more_wait_than_a_vm_can_use() {
        let mut parcels = Parcels::default();
        for index in 0..MOST {
            parcels.deposit(format!("n{index}"), null()).unwrap();
        }
        assert_eq!(
            parcels.deposit("more".to_owned(), null()),
            Err(DepositError::Full)
        );
        assert_eq!(parcels.deposit("n0".to_owned(), null()), Ok(()));
    }
}

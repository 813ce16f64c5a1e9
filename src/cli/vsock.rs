//! `--vsock`: `PATH[,cid=N]`.

use vmm::spec::Vsock as Description;

use super::options::expected;

/// The guest's context id where nothing was said: the first one that may be a guest's.
const DEFAULT_CID: u32 = 3;

/// The value of `--vsock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vsock(Description);

impl Vsock {
    /// Reads the value of the flag. The first comma ends the path.
    ///
    /// # Errors
    /// A sentence that names the option that was not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut options = text.split(',');
        let mut vsock = Description {
            guest_cid: DEFAULT_CID,
            uds_path: options.next().unwrap_or_default().to_owned(),
            vsock_id: None,
        };
        if vsock.uds_path.is_empty() {
            return Err("no path was given: name the unix socket to make first".to_owned());
        }
        for option in options {
            match option.split_once('=') {
                Some(("cid", cid)) => {
                    vsock.guest_cid = cid.parse().map_err(|_| expected("cid", cid, "3 or more"))?;
                }
                _ => return Err(format!("`{option}` was given and cid= was expected")),
            }
        }
        Ok(Self(vsock))
    }

    /// The device.
    pub(crate) fn into_device(self) -> Description {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_path_and_a_guest_a_context_id() {
        let vsock = Vsock::parse("v.sock").unwrap().into_device();
        assert_eq!((vsock.uds_path.as_str(), vsock.guest_cid), ("v.sock", 3));
        let vsock = Vsock::parse("/run/v.sock,cid=52").unwrap().into_device();
        assert_eq!(vsock.guest_cid, 52);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "no path"),
            ("v,cid=x", "cid=x"),
            ("v,port=1", "`port=1`"),
        ] {
            let error = Vsock::parse(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}

//! Files of the host that a container has in its tree: they are copied into the guest before it starts.
//!
//! The host shares no filesystem with a guest. What is small and only read (`resolv.conf`, `hosts`, a config map) is
//! copied; a directory that is to be written is refused, for nobody would ever see what was written there.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use protocol::api::PutFileRequest;
use serde_json::{Value, json};

use crate::bundle;
use crate::spec::{Spec, SpecError};

/// Where the agent puts files, in the guest.
const PLACE: &str = "/run/ravelin/files";
/// The most that one container has in files, bytes and entries, and how deep.
const MOST_BYTES: u64 = 16 << 20;
const MOST_ENTRIES: usize = 4096;
const DEEPEST: usize = 16;
/// The largest piece of a file in one message, bytes.
const PIECE: usize = 1 << 20;

/// What is to be put into the guest for a container.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// In the order in which it is to be put.
    pub(crate) puts: Vec<PutFileRequest>,
    bytes: u64,
}

impl Files {
    /// Reads what the mounts of `spec` bind, and has them bind what the guest will have instead.
    ///
    /// # Errors
    /// When something cannot be read, is too much, or is to be shared with the host.
    pub(crate) fn take(spec: &mut Spec, id: &str) -> Result<Self, SpecError> {
        let mut files = Self::default();
        for (at, mount) in spec.mounts_mut().iter_mut().enumerate() {
            if is_bind(mount) {
                files.bind(mount, &format!("{id}/{at}"))?;
            }
        }
        Ok(files)
    }

    fn bind(&mut self, mount: &mut Value, place: &str) -> Result<(), SpecError> {
        let text = |key: &str| {
            mount
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (source, destination) = (PathBuf::from(text("source")), text("destination"));
        if destination == "/dev/shm" {
            // The sandbox's, which is the guest's own.
            *mount = json!({"destination": destination, "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]});
            return Ok(());
        }
        let unreadable = |error: io::Error| {
            SpecError::Refused(format!(
                "the volume {} cannot be read: {error}",
                source.display()
            ))
        };
        let found = fs::metadata(&source).map_err(unreadable)?;
        if found.is_dir() && !has_option(mount, "ro") {
            return Err(SpecError::Refused(format!(
                "the directory {} is to be shared with the host at {destination}, and a microVM shares none: mount it \
                 read-only (ro) to have its files copied in",
                source.display()
            )));
        }
        if !found.is_dir() && !found.is_file() {
            return Err(SpecError::Refused(format!(
                "{} is neither a file nor a directory, and a microVM gets no others",
                source.display()
            )));
        }
        self.add(&source, place, 0).map_err(unreadable)?;
        if let Some(mount) = mount.as_object_mut() {
            mount.insert("source".to_owned(), format!("{PLACE}/{place}").into());
        }
        Ok(())
    }

    fn add(&mut self, source: &Path, place: &str, depth: usize) -> io::Result<()> {
        // What is bound may itself be a link; what is found below it stays one.
        let found = match depth {
            0 => fs::metadata(source)?,
            _ => fs::symlink_metadata(source)?,
        };
        if self.puts.len() >= MOST_ENTRIES || depth > DEEPEST {
            return Err(io::Error::other(format!(
                "it has more than {MOST_ENTRIES} entries or is deeper than {DEEPEST}"
            )));
        }
        let mut put = PutFileRequest::new();
        put.path = place.to_owned();
        put.mode = found.permissions().mode() & 0o7777;
        (put.uid, put.gid) = (found.uid(), found.gid());
        if found.is_symlink() {
            put.link = fs::read_link(source)?.to_string_lossy().into_owned();
            self.puts.push(put);
        } else if found.is_dir() {
            put.directory = true;
            self.puts.push(put);
            for entry in fs::read_dir(source)? {
                let name = entry?.file_name();
                let name = name
                    .to_str()
                    .ok_or_else(|| io::Error::other("a name in it is no text"))?;
                self.add(&source.join(name), &format!("{place}/{name}"), depth + 1)?;
            }
        } else if found.is_file() {
            self.add_file(source, &put)?;
        }
        Ok(())
    }

    fn add_file(&mut self, source: &Path, put: &PutFileRequest) -> io::Result<()> {
        let data = bundle::bounded(source, MOST_BYTES.saturating_sub(self.bytes))?;
        self.bytes += data.len() as u64;
        let mut pieces: Vec<&[u8]> = data.chunks(PIECE).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        for (at, piece) in pieces.into_iter().enumerate() {
            let mut put = put.clone();
            put.offset = (at * PIECE) as u64;
            put.data = piece.to_owned();
            self.puts.push(put);
        }
        Ok(())
    }
}

fn is_bind(mount: &Value) -> bool {
    mount.get("type").and_then(Value::as_str) == Some("bind")
        || has_option(mount, "bind")
        || has_option(mount, "rbind")
}

fn has_option(mount: &Value, option: &str) -> bool {
    let options = mount.get("options").and_then(Value::as_array);
    options.is_some_and(|options| options.iter().any(|one| one.as_str() == Some(option)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(mount: &Value) -> Result<(Files, Value), SpecError> {
        let mut spec = Spec::read(json!({"mounts": [mount]}).to_string().as_bytes())?;
        let files = Files::take(&mut spec, "web")?;
        Ok((files, spec.mounts_mut()[0].clone()))
    }

    #[test]
    fn a_bound_file_is_copied_and_bound_from_where_it_is_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        fs::write(&path, "nameserver 1.1.1.1\n").unwrap();
        let (files, mount) =
            take(&json!({"type": "bind", "source": path, "destination": "/etc/resolv.conf"}))
                .unwrap();
        assert_eq!(mount["source"], "/run/ravelin/files/web/0");
        assert_eq!(
            (files.puts[0].path.as_str(), files.puts[0].data.as_slice()),
            ("web/0", b"nameserver 1.1.1.1\n".as_slice())
        );
    }

    #[test]
    fn a_large_file_comes_in_pieces_and_a_too_large_one_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mount = json!({"type": "bind", "source": path, "destination": "/f"});
        fs::write(&path, vec![1; PIECE + 1]).unwrap();
        let (files, _) = take(&mount).unwrap();
        assert_eq!(
            files.puts.iter().map(|put| put.offset).collect::<Vec<_>>(),
            [0, PIECE as u64]
        );
        fs::File::create(&path)
            .unwrap()
            .set_len(MOST_BYTES + 1)
            .unwrap();
        assert!(take(&mount).is_err());
    }

    #[test]
    fn a_directory_is_copied_with_its_links_if_it_is_only_read() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("..1")).unwrap();
        fs::write(directory.path().join("..1/key"), "value").unwrap();
        std::os::unix::fs::symlink("..1", directory.path().join("..data")).unwrap();
        let mut mount = json!({"type": "bind", "source": directory.path(), "destination": "/c", "options": ["rbind", "ro"]});
        let (files, _) = take(&mount).unwrap();
        let links: Vec<_> = files
            .puts
            .iter()
            .filter(|put| !put.link.is_empty())
            .collect();
        assert_eq!(
            (links.len(), links[0].link.as_str(), files.puts.len()),
            (1, "..1", 4)
        );
        mount["options"] = json!(["rbind", "rw"]);
        let error = take(&mount).unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
    }

    #[test]
    fn shared_memory_is_the_guests_own() {
        let (files, mount) =
            take(&json!({"type": "bind", "source": "/run/x/shm", "destination": "/dev/shm"}))
                .unwrap();
        assert_eq!(
            (files.puts.len(), mount["type"].as_str()),
            (0, Some("tmpfs"))
        );
    }
}

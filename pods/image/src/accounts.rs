//! The users and groups of an image, as its own files name them.

use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::tree::{Kind, Tree};

/// Bytes of each file that are read.
const LIMIT: u64 = 1 << 20;

/// `/etc/passwd` and `/etc/group` of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    passwd: String,
    group: String,
}

/// Whom a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Groups that the user is a member of.
    pub others: Vec<u32>,
    /// The user's directory.
    pub home: String,
}

/// A user or a group that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the image has no {kind} {name:?} in {file}: name one that it has, or a number")]
pub struct Unknown {
    kind: &'static str,
    name: String,
    file: &'static str,
}

impl Accounts {
    /// Those of a tree. A file that is missing or beyond all measure has nobody.
    pub(crate) fn read(tree: &Tree, store: &Store) -> Self {
        let text = |path: &[u8]| {
            let content = match &tree.node(tree.open(path)?).kind {
                Kind::File(content) if content.size <= LIMIT => *content,
                _ => return None,
            };
            let bytes = store.read(&content).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        Self {
            passwd: text(b"etc/passwd").unwrap_or_default(),
            group: text(b"etc/group").unwrap_or_default(),
        }
    }

    /// The user that `USER[:GROUP]` means, each a name or a number; nothing means root.
    ///
    /// # Errors
    /// If a name is not there.
    pub fn user(&self, text: &str) -> Result<User, Unknown> {
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let line = self
            .passwd
            .lines()
            .map(fields)
            .find(|line| is_named(line, name));
        let number = |line: &[&str], at: usize| line.get(at).and_then(|text| text.parse().ok());
        let uid = line
            .as_ref()
            .and_then(|line| number(line, 2))
            .or_else(|| name.parse().ok());
        let uid = uid.ok_or_else(|| Unknown {
            kind: "user",
            name: name.to_owned(),
            file: "/etc/passwd",
        })?;
        let own = line.as_ref().and_then(|line| number(line, 3)).unwrap_or(0);
        let known = line.as_ref().map_or("", |line| line[0]);
        Ok(User {
            uid,
            gid: group.map_or(Ok(own), |group| self.gid(group))?,
            others: if group.is_none() {
                self.others(known)
            } else {
                Vec::new()
            },
            home: line
                .and_then(|line| line.get(5).copied())
                .filter(|home| !home.is_empty())
                .unwrap_or("/")
                .to_owned(),
        })
    }

    fn gid(&self, name: &str) -> Result<u32, Unknown> {
        let line = self
            .group
            .lines()
            .map(fields)
            .find(|line| is_named(line, name));
        let number = line.and_then(|line| line.get(2)?.parse().ok());
        number.or_else(|| name.parse().ok()).ok_or_else(|| Unknown {
            kind: "group",
            name: name.to_owned(),
            file: "/etc/group",
        })
    }

    fn others(&self, user: &str) -> Vec<u32> {
        let is_member = |line: &Vec<&str>| {
            line.get(3)
                .is_some_and(|all| all.split(',').any(|one| one == user))
        };
        let lines = self
            .group
            .lines()
            .map(fields)
            .filter(|line| !user.is_empty() && is_member(line));
        let mut others: Vec<u32> = lines
            .filter_map(|line| line.get(2)?.parse().ok())
            .take(1024)
            .collect();
        others.sort_unstable();
        others.dedup();
        others
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

/// Whether a line is that of a name, or else of a number.
fn is_named(line: &[&str], name: &str) -> bool {
    !line[0].is_empty() && (line[0] == name || line.get(2) == Some(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n".into(),
            group: "root:x:0:\nweb:x:34:\nlog:x:4:web,other\nssl:x:5:web\n".into(),
        }
    }

    fn user(uid: u32, gid: u32, others: &[u32], home: &str) -> User {
        User {
            uid,
            gid,
            others: others.into(),
            home: home.into(),
        }
    }

    #[test]
    fn a_name_is_looked_up_in_the_image() {
        assert_eq!(
            accounts().user("web").unwrap(),
            user(33, 34, &[4, 5], "/srv")
        );
        assert_eq!(
            accounts().user("33").unwrap(),
            user(33, 34, &[4, 5], "/srv")
        );
        assert_eq!(
            accounts().user("web:log").unwrap(),
            user(33, 4, &[], "/srv")
        );
        assert_eq!(accounts().user("").unwrap(), user(0, 0, &[], "/root"));
    }

    #[test]
    fn a_number_needs_nobody() {
        assert_eq!(
            Accounts::default().user("1000:1001").unwrap(),
            user(1000, 1001, &[], "/")
        );
    }

    #[test]
    fn a_name_that_is_not_there_is_refused() {
        assert!(
            accounts()
                .user("nobody")
                .unwrap_err()
                .to_string()
                .contains("no user \"nobody\"")
        );
        assert!(
            accounts()
                .user("web:none")
                .unwrap_err()
                .to_string()
                .contains("no group \"none\"")
        );
    }
}

//! What this process may, beyond an ordinary user.

use std::fs;
use std::sync::OnceLock;

use rustix::process::geteuid;

/// Whether this process is the host's root. Root of a user namespace, as in a rootless container, is an ordinary user
/// outside of it: it has the ids that were given to it, and files and cgroups of its own at most.
pub(super) fn is_host_root() -> bool {
    /// It does not change.
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        geteuid().is_root() && is_of_all_ids(&map)
    })
}

/// Whether a map of ids (user_namespaces(7)) is that of the host: every id is itself.
fn is_of_all_ids(map: &str) -> bool {
    let mut fields = map.split_whitespace();
    let all = ["0", "0", "4294967295"];
    all.iter().all(|field| fields.next() == Some(field)) && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_a_user_namespace_is_not_the_hosts() {
        assert!(is_of_all_ids("         0          0 4294967295\n"));
        for map in [
            "0 1000 1\n",
            "0 100000 65536\n",
            "",
            "0 0 4294967295\n1 1 1\n",
        ] {
            assert!(!is_of_all_ids(map), "{map}");
        }
    }
}

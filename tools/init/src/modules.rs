//! Kernel modules of an initramfs, in the order that its builder has worked out.
//!
//! `/etc/modules-load` has one absolute path a line, each after those that it depends on; `#` starts a
//! comment. A root without that file has its drivers built in.

use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use crate::kmsg;

const LIST: &str = "/etc/modules-load";

/// Loads the listed modules that belong to the running kernel. What fails is said in the kernel's log:
/// the guest may do without it.
pub fn load_listed() {
    let Ok(list) = std::fs::read_to_string(LIST) else {
        return;
    };
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    for path in paths(&list) {
        if !belongs_to(path, &release) {
            kmsg::info(&format_args!(
                "{path} is not for kernel {release}: no module is loaded"
            ));
            return;
        }
        match load(Path::new(path)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => kmsg::error(&format_args!("cannot load {path}: {error}")),
        }
    }
}

fn load(path: &Path) -> Result<(), Errno> {
    let file =
        File::open(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::system::finit_module(&file, c"", 0)
}

/// The paths in a module list, in order.
fn paths(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
}

/// Whether a module path lies under `/lib/modules/RELEASE/`.
fn belongs_to(path: &str, release: &str) -> bool {
    path.strip_prefix("/lib/modules/")
        .and_then(|path| path.strip_prefix(release))
        .is_some_and(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_their_order_without_comments_and_blanks() {
        let list = "# made by tools/guest\n/lib/a.ko\n\n  /lib/b.ko # needs a\n#/lib/c.ko\n";
        assert_eq!(paths(list).collect::<Vec<_>>(), ["/lib/a.ko", "/lib/b.ko"]);
    }

    #[test]
    fn a_module_belongs_to_one_release_only() {
        assert!(belongs_to("/lib/modules/6.1.0-56/kernel/a.ko", "6.1.0-56"));
        assert!(!belongs_to("/lib/modules/6.1.0-56/kernel/a.ko", "6.1.0-5"));
        assert!(!belongs_to("/lib/modules/6.1.0-56/kernel/a.ko", "6.1.100"));
        assert!(!belongs_to("/tmp/a.ko", "6.1.100"));
    }
}

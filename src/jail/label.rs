//! The monitor's label of the security module that the host runs, SELinux or AppArmor: for the next exec of this thread
//! and of the children that it makes (proc_pid_attr(5)).
//!
//! **No two monitors of SELinux have the same pair of categories**: each holds a socket with the pair's name, in the
//! abstract namespace, for as long as it is there. It needs no file, and nothing of it is left when its holder is killed.

use std::fs;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::rand::{GetRandomFlags, getrandom};

/// What the kernel keeps of this thread's labels.
const OWN: &str = "/proc/thread-self/attr";
/// The monitor's type in SELinux (`resources/selinux/ravelin.cil`).
const TYPE: &str = "ravelin_vm_t";
/// The monitor's profile in AppArmor (`resources/apparmor/ravelin-monitor`).
const PROFILE: &str = "ravelin-monitor";
/// How many categories there are in every policy that has some.
const CATEGORIES: u16 = 1024;
/// How often a pair is chosen that another one has. There are half a million.
const TRIES: u32 = 100;

/// A module that labels processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    Selinux,
    AppArmor,
}

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// A context, for SELinux.
    pub(crate) selinux: Option<String>,
    /// A profile's name, for AppArmor.
    pub(crate) apparmor: Option<String>,
}

/// A label that the next exec gives.
#[derive(Debug)]
pub(crate) struct Label {
    /// In the kernel's own words.
    text: String,
    /// What makes its pair of categories its own.
    _pair: Option<UnixDatagram>,
}

/// Why there is no label that was asked for, or that should be there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabelError {
    #[error(
        "the label `{0}` was asked for, and {1} is not active on this host: leave {2} out, or boot with it (security=)"
    )]
    NotActive(String, &'static str, &'static str),
    #[error(
        "the label `{0}` cannot be had ({1}): load the policy that has it (resources/), name another one, or run \
         without this wall by --jail-without label"
    )]
    Refused(String, io::Error),
    #[error("no pair of categories is free for the monitor's label: {0}")]
    NoPair(io::Error),
    #[error(
        "the monitor has the label `{0}` in place of `{1}`: run without this wall by --jail-without label if this \
         host cannot have it"
    )]
    Another(String, String),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The next exec gives this label.
    Label(Label),
    /// A module is active and its policy has no label for monitors: a sentence.
    NotLoaded(&'static str),
    /// No module that labels processes is active.
    None,
}

/// Has the next exec give what is asked for; or, if nothing is, the usual label where the policy has it.
///
/// # Errors
/// When what is asked for cannot be had.
pub(crate) fn take(wish: &Wish) -> Result<Taken, LabelError> {
    Attributes(OWN.into()).take(wish)
}

impl Label {
    /// Whether a process has it.
    ///
    /// # Errors
    /// When it has another.
    pub(crate) fn stands(&self, monitor: Pid) -> Result<(), LabelError> {
        let path = format!("/proc/{}/attr", monitor.as_raw_nonzero());
        let attributes = Attributes(path.into());
        let found = ["apparmor/current", "current"].map(|file| attributes.read(file));
        match found.iter().flatten().any(|text| *text == self.text) {
            true => Ok(()),
            false => {
                let found = found.into_iter().flatten().next().unwrap_or_default();
                Err(LabelError::Another(found, self.text.clone()))
            }
        }
    }
}

/// A directory of labels.
struct Attributes(PathBuf);

impl Attributes {
    fn take(&self, wish: &Wish) -> Result<Taken, LabelError> {
        let module = self.module();
        let asked = [
            (&wish.selinux, Module::Selinux, "SELinux", "--selinux-label"),
            (
                &wish.apparmor,
                Module::AppArmor,
                "AppArmor",
                "--apparmor-profile",
            ),
        ];
        for (label, of, name, flag) in asked {
            if let Some(label) = label {
                return match module == Some(of) {
                    true => self.set(of, label, None).map(Taken::Label),
                    false => Err(LabelError::NotActive(label.clone(), name, flag)),
                };
            }
        }
        match module {
            Some(Module::Selinux) => self.take_context(),
            Some(Module::AppArmor) => Ok(self.set(Module::AppArmor, PROFILE, None).map_or(
                Taken::NotLoaded(
                    "AppArmor is active and the profile ravelin-monitor is not loaded, or not for this caller \
                     (resources/apparmor): the monitor has no label",
                ),
                Taken::Label,
            )),
            None => Ok(Taken::None),
        }
    }

    /// The usual context, with a pair of categories that no other monitor has.
    fn take_context(&self) -> Result<Taken, LabelError> {
        let own = self.read("current").unwrap_or_default();
        let pair = Pair::new().map_err(LabelError::NoPair)?;
        let context = context(&own, &pair);
        let set = self.set(Module::Selinux, &context, Some(pair.held));
        Ok(set.map_or(
            Taken::NotLoaded(
                "SELinux is active and ravelin's policy module is not loaded, or not for this caller \
                 (resources/selinux): the monitor keeps its caller's label",
            ),
            Taken::Label,
        ))
    }

    /// Which module is active: a context has colons, AppArmor says `unconfined`, or a profile and how it is meant.
    fn module(&self) -> Option<Module> {
        let is_context = |text: &String| text.split(':').count() >= 3;
        let of_apparmor = |text: &String| text == "unconfined" || text.ends_with(')');
        let current = self.read("current").ok();
        let apparmor = self
            .read("apparmor/current")
            .ok()
            .or_else(|| current.clone());
        if current.as_ref().is_some_and(is_context) {
            Some(Module::Selinux)
        } else if apparmor.as_ref().is_some_and(of_apparmor) {
            Some(Module::AppArmor)
        } else {
            None
        }
    }

    /// Has the next exec give a label.
    fn set(
        &self,
        module: Module,
        label: &str,
        pair: Option<UnixDatagram>,
    ) -> Result<Label, LabelError> {
        let (files, line) = match module {
            Module::Selinux => (["exec", "exec"], label.to_owned()),
            // Kernels before 5.8 have but the one.
            Module::AppArmor => (["apparmor/exec", "exec"], format!("exec {label}")),
        };
        let file = files.iter().find(|file| self.0.join(file).exists());
        let file = file.unwrap_or(&files[1]);
        // As the kernel writes it: with the mode of a profile, with categories in their order.
        let set = self.write(file, &line).and_then(|()| self.read(file));
        let text = set.map_err(|error| LabelError::Refused(label.to_owned(), error))?;
        Ok(Label { text, _pair: pair })
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let text = fs::read_to_string(self.0.join(file))?;
        Ok(text.trim_end_matches(['\0', '\n']).to_owned())
    }

    fn write(&self, file: &str, line: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).open(self.0.join(file))?;
        file.write_all(line.as_bytes())
    }
}

/// Two categories that are one monitor's.
struct Pair {
    low: u16,
    high: u16,
    held: UnixDatagram,
}

impl Pair {
    fn new() -> io::Result<Self> {
        let mut taken = io::ErrorKind::AddrInUse.into();
        for _ in 0..TRIES {
            let (one, other) = (random_category()?, random_category()?);
            let (low, high) = (one.min(other), one.max(other));
            if low == high {
                continue;
            }
            let name = format!("ravelin/categories/{low},{high}");
            match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
                Ok(held) => return Ok(Self { low, high, held }),
                Err(error) => taken = error,
            }
        }
        Err(taken)
    }
}

fn random_category() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes) % CATEGORIES)
}

/// The monitor's context: its caller's user and role, its own type, and its caller's sensitivity with the pair. A
/// policy without levels has none.
fn context(own: &str, pair: &Pair) -> String {
    let mut fields = own.splitn(4, ':');
    let (user, role) = (
        fields.next().unwrap_or_default(),
        fields.next().unwrap_or_default(),
    );
    match fields.nth(1) {
        Some(range) => {
            let sensitivity = range.split([':', '-']).next().unwrap_or_default();
            let (low, high) = (pair.low, pair.high);
            format!("{user}:{role}:{TYPE}:{sensitivity}:c{low},c{high}")
        }
        None => format!("{user}:{role}:{TYPE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as the kernel's, whose files take whatever is written to them.
    fn attributes(files: &[(&str, &str)]) -> (tempfile::TempDir, Attributes) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("apparmor")).unwrap();
        for (file, text) in files {
            fs::write(directory.path().join(file), text).unwrap();
        }
        let attributes = Attributes(directory.path().to_owned());
        (directory, attributes)
    }

    fn asked(selinux: Option<&str>, apparmor: Option<&str>) -> Wish {
        Wish {
            selinux: selinux.map(str::to_owned),
            apparmor: apparmor.map(str::to_owned),
        }
    }

    fn pair(low: u16, high: u16) -> Pair {
        Pair {
            low,
            high,
            held: UnixDatagram::unbound().unwrap(),
        }
    }

    #[test]
    fn the_module_is_told_by_its_words() {
        for (text, module) in [
            (
                "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0",
                Some(Module::Selinux),
            ),
            ("unconfined\n", Some(Module::AppArmor)),
            ("docker-default (enforce)\n", Some(Module::AppArmor)),
            // SELinux before it has a policy.
            ("kernel\0", None),
            ("", None),
        ] {
            let (_kept, attributes) = attributes(&[("current", text)]);
            assert_eq!(attributes.module(), module, "{text}");
        }
        let (_kept, attributes) = attributes(&[]);
        assert_eq!(attributes.module(), None);
    }

    #[test]
    fn a_context_is_the_callers_with_the_monitors_type_and_pair() {
        let of = |own: &str| context(own, &pair(3, 70));
        let shell = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023";
        assert_eq!(
            of(shell),
            "unconfined_u:unconfined_r:ravelin_vm_t:s0:c3,c70"
        );
        let service = "system_u:system_r:init_t:s0";
        assert_eq!(of(service), "system_u:system_r:ravelin_vm_t:s0:c3,c70");
        assert_eq!(of("root:sysadm_r:sysadm_t"), "root:sysadm_r:ravelin_vm_t");
    }

    #[test]
    fn a_pair_is_one_monitors_for_as_long_as_it_is_held() {
        let first = Pair::new().unwrap();
        assert!(first.low < first.high && first.high < CATEGORIES);
        let name = format!("ravelin/categories/{},{}", first.low, first.high);
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let error = UnixDatagram::bind_addr(&address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        UnixDatagram::bind_addr(&address).unwrap();
    }

    #[test]
    fn the_usual_label_is_taken_where_the_module_has_it() {
        let current = ("current", "u:r:t:s0\0");
        let (_kept, selinux) = attributes(&[current, ("exec", "")]);
        let Taken::Label(label) = selinux.take(&Wish::default()).unwrap() else {
            panic!("no label");
        };
        assert!(
            label.text.starts_with("u:r:ravelin_vm_t:s0:c"),
            "{}",
            label.text
        );
        let files = [("current", "unconfined\n"), ("apparmor/exec", "")];
        let (_kept, apparmor) = attributes(&files);
        let Taken::Label(label) = apparmor.take(&Wish::default()).unwrap() else {
            panic!("no label");
        };
        assert_eq!(label.text, "exec ravelin-monitor");
    }

    #[test]
    fn a_module_without_the_label_is_named_and_none_is_not() {
        let of = |text: &str| {
            // There is no file to write to.
            let (_kept, attributes) = attributes(&[("current", text)]);
            attributes.take(&Wish::default()).unwrap()
        };
        let said = |taken| match taken {
            Taken::NotLoaded(sentence) => sentence,
            other => panic!("{other:?}"),
        };
        assert!(said(of("u:r:t:s0")).contains("resources/selinux"));
        assert!(said(of("unconfined")).contains("resources/apparmor"));
        assert!(matches!(of(""), Taken::None));
    }

    #[test]
    fn a_label_that_is_asked_for_is_had_or_refused() {
        let (_kept, selinux) = attributes(&[("current", "u:r:t:s0"), ("exec", "")]);
        let wish = asked(Some("u:r:x_t:s0"), None);
        assert!(
            matches!(selinux.take(&wish).unwrap(), Taken::Label(label) if label.text == "u:r:x_t:s0")
        );
        let error = selinux.take(&asked(None, Some("web"))).unwrap_err();
        assert!(
            error.to_string().contains("AppArmor is not active"),
            "{error}"
        );
        let (_kept, without) = attributes(&[("current", "unconfined")]);
        let error = without.take(&asked(None, Some("web"))).unwrap_err();
        assert!(matches!(error, LabelError::Refused(..)), "{error}");
    }
}

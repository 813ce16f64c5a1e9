//! The keeper: a process that does nothing until the warden is gone, and then clears up after it.
//!
//! A warden that ends as it should dismisses it. One that was killed takes its monitor with it and leaves cgroups,
//! sockets, a name and maybe a terminal behind; the keeper, its [`Heir`], becomes ravelin once more, with a command line
//! that says what to remove ([`Estate`]). What the warden makes later it adds to that, before it makes it.

use std::cell::RefCell;
use std::path::Path;

use rustix::stdio::stdin;

use super::estate::{Estate, Minded};
use super::program;
use crate::console::terminal::Settings;
use crate::failure::Failure;
use crate::jail::Heir;
use crate::jail::cgroup::Site;
use crate::registry::{Note, Registry};

/// The warden's side of the keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    heir: Option<Heir>,
    estate: RefCell<Estate>,
    /// The VM's name.
    name: String,
    /// Of a socket that it minds, for who clears up when the keeper is gone as well.
    note: RefCell<Option<Note>>,
}

impl Keeper {
    /// Starts the keeper of what will be made, which may be cgroups ([`Self::expect`]), and of a terminal's settings.
    ///
    /// # Errors
    /// When the kernel makes no process, or this program cannot be opened.
    pub(super) fn start(
        name: &str,
        has_cgroups: bool,
        socket: Option<&Path>,
        settings: Option<&Settings>,
    ) -> Result<Self, Failure> {
        let estate = Estate {
            cgroups: Vec::new(),
            entry: socket.map(Path::to_owned),
            minded: Vec::new(),
            terminal: settings.cloned(),
        };
        let heir = (has_cgroups || !estate.is_empty()).then(|| {
            let kept = settings.map(|_| stdin());
            Heir::start(&program()?, kept.as_slice(), estate.command_line()).map_err(Failure::run)
        });
        Ok(Self {
            heir: heir.transpose()?,
            estate: RefCell::new(estate),
            name: name.to_owned(),
            note: RefCell::default(),
        })
    }

    /// Has it remove cgroups, which are about to be made.
    pub(super) fn expect(&self, site: Option<&Site>) {
        let mut estate = self.estate.borrow_mut();
        estate.cgroups = site.into_iter().flat_map(Site::directories).collect();
        self.tell(&estate);
    }

    /// Has it remove a socket's file, which is about to be made, or is this one.
    pub(super) fn mind(&self, path: &Path, file: Option<(u64, u64)>) {
        if file.is_none() {
            let mut note = self.note.borrow_mut();
            // The one before would take this one's file with it.
            drop(note.take());
            // Without a directory for it nobody but the keeper clears up.
            *note = Registry::of_this_user().note(&self.name, path).ok();
        }
        let mut estate = self.estate.borrow_mut();
        estate.mind(Minded {
            path: path.to_owned(),
            file,
        });
        self.tell(&estate);
    }

    fn tell(&self, estate: &Estate) {
        if let Some(heir) = &self.heir {
            heir.change(estate.command_line());
        }
    }

    /// Lets the keeper go: everything is cleared up.
    pub(super) fn dismiss(self) {
        // First: whoever is killed before the keeper has gone leaves nothing that it does not see.
        drop(self.note);
        if let Some(heir) = self.heir {
            heir.disinherit();
        }
    }
}

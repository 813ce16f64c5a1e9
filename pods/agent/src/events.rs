//! What happens in containers without being asked for: processes that are ended for want of memory.
//!
//! The kernel changes a cgroup's memory.events with each, and an inotify watch tells of the change.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guest_init::kmsg;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::cgroup::Cgroup;

/// The most that wait to be told; a container has at most one among them.
const MOST: usize = 256;

/// Whose memory is watched, and who has run out of it.
#[derive(Clone)]
pub(crate) struct Events(Arc<Inner>);

struct Inner {
    /// The watches.
    inotify: AsyncFd<OwnedFd>,
    table: Mutex<Table>,
    more: Notify,
}

#[derive(Default)]
struct Table {
    /// By the watch's number.
    watched: BTreeMap<i32, Watched>,
    waiting: VecDeque<String>,
}

struct Watched {
    name: String,
    cgroup: Cgroup,
    /// How many were ended when it was last looked at.
    known: u64,
}

impl Events {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The kernel has no inotify.
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = Self(Arc::new(Inner {
            inotify: crate::raw::register(inotify)?,
            table: Mutex::default(),
            more: Notify::new(),
        }));
        let listening = events.clone();
        tokio::spawn(async move { listening.listen().await });
        Ok(events)
    }

    /// Watches a container.
    pub(crate) fn watch(&self, name: &str, cgroup: &Cgroup) {
        let path = cgroup.path().join("memory.events");
        match inotify::add_watch(&self.0.inotify, &path, WatchFlags::MODIFY) {
            Ok(number) => {
                let watched = Watched {
                    name: name.into(),
                    cgroup: cgroup.clone(),
                    known: 0,
                };
                self.table().watched.insert(number, watched);
            }
            Err(error) => kmsg::error(&format_args!("cannot watch {}: {error}", path.display())),
        }
    }

    /// Watches it no longer.
    pub(crate) fn forget(&self, name: &str) {
        self.look();
        // With its cgroup the watch goes.
        self.table()
            .watched
            .retain(|_, watched| watched.name != name);
    }

    /// Looks at every container now: before an end is told, so is what it ended of.
    pub(crate) fn look(&self) {
        let mut table = self.table();
        let Table { watched, waiting } = &mut *table;
        for watched in watched.values_mut() {
            let now = watched.cgroup.oom_kills();
            if now > watched.known {
                watched.known = now;
                if !waiting.contains(&watched.name) && waiting.len() < MOST {
                    waiting.push_back(watched.name.clone());
                    self.0.more.notify_one();
                }
            }
        }
    }

    /// Waits for the next container that has run out of memory.
    pub(crate) async fn next(&self) -> String {
        loop {
            if let Some(name) = self.table().waiting.pop_front() {
                return name;
            }
            self.0.more.notified().await;
        }
    }

    async fn listen(&self) {
        let mut space = [MaybeUninit::uninit(); 4096];
        loop {
            let Ok(mut guard) = self.0.inotify.readable().await else {
                return;
            };
            let mut reader = inotify::Reader::new(self.0.inotify.get_ref(), &mut space);
            while reader.next().is_ok() {}
            guard.clear_ready();
            self.look();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

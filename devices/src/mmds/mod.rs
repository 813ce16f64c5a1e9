//! MMDS, the metadata service of a microVM: the user puts a JSON document in, the guest reads it over
//! HTTP at a link-local address. See the README beside this file.

mod config;
mod connection;
mod ether;
mod http;
mod metrics;
mod stack;
mod store;
mod token;
mod wire;

#[cfg(test)]
pub(crate) mod guest;

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::Value;

pub use config::{Config, ConfigError, Version};
pub use metrics::Metrics;
pub use store::StoreError;

pub(crate) use ether::HEAD;
pub(crate) use stack::{LONGEST_FRAME, Stack};

use store::{Format, LookupError, Store};
use token::{LifeError, Tokens};

/// The most bytes of JSON that the document has, unless the user says otherwise.
pub const DEFAULT_LIMIT: usize = 51_200;

/// One VM's metadata service: shared by those who change the document and the cards that answer the
/// guest.
///
/// Its lock is taken last, for the time of one change or one lookup, and nobody waits for a file, a guest
/// or another lock while holding it.
#[derive(Clone, Debug)]
pub struct Mmds(Arc<Shared>);

/// What a card needs to reach the service.
#[derive(Clone, Debug)]
pub struct Attachment {
    mmds: Mmds,
    address: Ipv4Addr,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    tokens: Tokens,
    /// What makes sequence numbers unlike those of another VM.
    seed: u64,
    metrics: Arc<Metrics>,
    /// What the tokens' time counts from.
    made: Instant,
}

#[derive(Debug)]
struct State {
    store: Store,
    version: Version,
    imds_compat: bool,
}

impl Mmds {
    /// A service without a document, of version 1, for documents of at most `limit` bytes of JSON without
    /// blanks.
    ///
    /// # Errors
    /// When the kernel grants no random key for the tokens.
    pub fn new(limit: usize) -> io::Result<Self> {
        let (mut key, mut seed) = ([0; token::KEY], [0; 8]);
        fill(&mut key)?;
        fill(&mut seed)?;
        Ok(Self(Arc::new(Shared {
            state: Mutex::new(State {
                store: Store::new(limit),
                version: Version::default(),
                imds_compat: false,
            }),
            tokens: Tokens::new(&key),
            seed: u64::from_ne_bytes(seed),
            metrics: Arc::default(),
            made: Instant::now(),
        })))
    }

    /// Takes up how the guest is to be answered. The document and the tokens stay.
    pub fn configure(&self, config: &Config) {
        let mut state = self.state();
        state.version = config.version;
        state.imds_compat = config.imds_compat;
    }

    /// Replaces the document.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]; the old one stays then.
    pub fn put(&self, data: Value) -> Result<(), StoreError> {
        self.state().store.put(data)
    }

    /// Changes the document by a merge patch (RFC 7396). A patch should come from serde_json's parser,
    /// which bounds its depth.
    ///
    /// # Errors
    /// When there is no document yet, or it would be too large; nothing has changed then.
    pub fn patch(&self, patch: Value) -> Result<(), StoreError> {
        self.state().store.patch(patch)
    }

    /// The document; an empty object before there is one.
    pub fn get(&self) -> Value {
        self.state().store.get()
    }

    /// What the service counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.0.metrics)
    }

    /// Takes up `config` and gives what its cards need. Each of them gets a copy.
    pub fn attach(&self, config: &Config) -> Attachment {
        self.configure(config);
        Attachment {
            mmds: self.clone(),
            address: config.address(),
        }
    }

    fn seed(&self) -> u64 {
        self.0.seed
    }

    fn version(&self) -> Version {
        self.state().version
    }

    /// The value at `path` in the wanted format, and the format used.
    fn lookup(&self, path: &str, wanted: Format) -> (Result<String, LookupError>, Format) {
        let state = self.state();
        let format = match wanted {
            Format::Json if state.imds_compat => Format::Imds,
            wanted => wanted,
        };
        (state.store.lookup(path, format), format)
    }

    fn issue_token(&self, seconds: u32) -> Result<String, LifeError> {
        self.0.tokens.issue(self.age(), seconds)
    }

    fn is_valid_token(&self, token: &str) -> bool {
        self.0.tokens.is_valid(self.age(), token)
    }

    fn age(&self) -> Duration {
        self.0.made.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let locked = self.0.state.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills a small buffer with random bytes of the kernel's.
fn fill(bytes: &mut [u8]) -> io::Result<()> {
    // Up to 256 bytes come whole, once the kernel has any (getrandom(2)).
    if getrandom(&mut *bytes, GetRandomFlags::empty())? == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

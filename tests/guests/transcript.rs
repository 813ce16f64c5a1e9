//! What a stream has said so far, read by a thread, so that nobody who speaks is ever kept waiting.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// A stream's text.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Arc<(Mutex<Said>, Condvar)>);

#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    closed: bool,
}

impl Transcript {
    /// Starts to listen.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let transcript = Self::default();
        let writer = transcript.clone();
        std::thread::spawn(move || writer.listen(stream));
        transcript
    }

    /// Waits until it contains `marker`; false when the stream has ended or the time is over without it.
    pub(crate) fn wait_for(&self, marker: &str, deadline: Instant) -> bool {
        self.wait_until(deadline, |said| text(said).contains(marker))
    }

    /// Waits for the stream's end; false when the time is over before.
    pub(crate) fn wait_for_end(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |said| said.closed)
    }

    /// Everything so far, with plain line ends.
    pub(crate) fn text(&self) -> String {
        text(&self.said())
    }

    fn listen(&self, mut stream: impl Read) {
        let mut piece = [0; 4096];
        loop {
            let count = match stream.read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A terminal whose last user is gone.
                Err(_) => 0,
            };
            let mut said = self.said();
            said.bytes.extend(&piece[..count]);
            said.closed = count == 0;
            self.0.1.notify_all();
            if count == 0 {
                return;
            }
        }
    }

    fn wait_until(&self, deadline: Instant, done: impl Fn(&Said) -> bool) -> bool {
        let mut said = self.said();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if done(&said) {
                return true;
            }
            if said.closed || left.is_zero() {
                return false;
            }
            said = self.0.1.wait_timeout(said, left).unwrap().0;
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.0.lock().unwrap()
    }
}

fn text(said: &Said) -> String {
    String::from_utf8_lossy(&said.bytes).replace('\r', "")
}

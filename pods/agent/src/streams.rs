//! A process's standard streams, between its pipes or its terminal and whoever is connected.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::stream::Kind;
use tokio::sync::{Notify, watch};

use crate::exits::Exit;
use crate::poll::Pollable;

/// Whether the process has ended.
type Ended = watch::Receiver<Option<Exit>>;

/// What is carried at a time, bytes.
const PIECE: usize = 32 * 1024;

/// The agent's ends of a process's streams.
pub(crate) struct Streams {
    /// Those that nobody is connected to yet.
    waiting: BTreeMap<Kind, Arc<Pollable>>,
    /// How many are waiting.
    left: watch::Sender<usize>,
    /// Outputs of which not all that the process wrote has been passed on.
    undrained: Arc<watch::Sender<usize>>,
    /// Ends the input.
    close: Arc<Notify>,
    ended: Ended,
}

impl Streams {
    /// With these ends, of a process that says by `ended` when it is gone.
    pub(crate) fn new(ends: BTreeMap<Kind, Arc<Pollable>>, ended: Ended) -> Self {
        Self {
            left: watch::Sender::new(ends.len()),
            waiting: ends,
            undrained: Arc::new(watch::Sender::new(0)),
            close: Arc::new(Notify::new()),
            ended,
        }
    }

    /// Adds one that came to be later.
    pub(crate) fn add(&mut self, kind: Kind, end: Arc<Pollable>) {
        self.waiting.insert(kind, end);
        self.left.send_replace(self.waiting.len());
    }

    /// Joins one and a connection; false if the process has none of that kind, or somebody has it already.
    pub(crate) fn connect(&mut self, kind: Kind, other: Pollable) -> bool {
        let Some(end) = self.waiting.remove(&kind) else {
            return false;
        };
        let ended = self.ended.clone();
        if kind == Kind::Stdin {
            tokio::spawn(input(other, end, Arc::clone(&self.close), ended));
        } else {
            self.undrained.send_modify(|count| *count += 1);
            tokio::spawn(output(end, other, ended, Arc::clone(&self.undrained)));
        }
        self.left.send_replace(self.waiting.len());
        true
    }

    /// Whether a stream is waiting for its connection.
    pub(crate) fn awaits(&self, kind: Kind) -> bool {
        self.waiting.contains_key(&kind)
    }

    /// Tells how many are still waiting for a connection.
    pub(crate) fn left(&self) -> watch::Receiver<usize> {
        self.left.subscribe()
    }

    /// Tells of how many outputs something is still to be passed on.
    pub(crate) fn undrained(&self) -> watch::Receiver<usize> {
        self.undrained.subscribe()
    }

    /// Ends the process's input, once what has arrived is passed on.
    pub(crate) fn close_input(&mut self) {
        // Dropped: what it reads is at its end.
        if self.waiting.remove(&Kind::Stdin).is_some() {
            self.left.send_replace(self.waiting.len());
        }
        self.close.notify_one();
    }
}

/// Passes on what the process prints. **What it had written when it ended is passed on before its end is told**, however
/// long another process may still hold the pipe: bytes written before an end are in the pipe when the end is known.
async fn output(
    from: Arc<Pollable>,
    to: Pollable,
    mut ended: Ended,
    undrained: Arc<watch::Sender<usize>>,
) {
    let mut piece = vec![0; PIECE];
    let mut is_heard = true;
    let mut is_open = true;
    loop {
        let is_over = ended.borrow_and_update().is_some();
        match from.try_read(&mut piece) {
            Some(Ok(0) | Err(_)) => {
                is_open = false;
                break;
            }
            // Whoever has gone misses the rest, and the process is not held up.
            Some(Ok(count)) if is_heard => {
                is_heard = to.write_all(&piece[..count]).await.is_ok();
            }
            Some(Ok(_)) => {}
            None if is_over => break,
            None => tokio::select! {
                ready = from.readable() => if ready.is_err() { break },
                // Whoever says it may be gone with the process.
                _ = ended.changed() => {}
            },
        }
    }
    to.end();
    undrained.send_modify(|count| *count = count.saturating_sub(1));
    drop(to);
    if is_open {
        swallow(&from, &mut piece).await;
    }
}

/// What a process in the background goes on to print has no reader; it is not to end of that.
async fn swallow(from: &Pollable, piece: &mut [u8]) {
    while matches!(from.read(piece).await, Ok(1..)) {}
}

/// Passes on what the process is to read. The end of the connection is the end of the input.
async fn input(from: Pollable, to: Arc<Pollable>, close: Arc<Notify>, mut ended: Ended) {
    let mut piece = vec![0; PIECE];
    let mut is_closing = false;
    loop {
        match from.try_read(&mut piece) {
            Some(Ok(0) | Err(_)) => break,
            Some(Ok(count)) => tokio::select! {
                written = to.write_all(&piece[..count]) => if written.is_err() { break },
                _ = gone(&mut ended) => break,
            },
            None if is_closing => break,
            None => tokio::select! {
                ready = from.readable() => if ready.is_err() { break },
                () = close.notified() => is_closing = true,
                () = gone(&mut ended) => break,
            },
        }
    }
}

async fn gone(ended: &mut Ended) {
    // An error is the end of who would say it.
    let _ = ended.wait_for(Option::is_some).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A process's output with a writer, and who listens.
    fn printing() -> (
        Streams,
        watch::Sender<Option<Exit>>,
        std::fs::File,
        UnixStream,
    ) {
        let (ended, receiver) = watch::channel(None);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let end = Arc::new(Pollable::new(reader).unwrap());
        let mut streams = Streams::new([(Kind::Stdout, end)].into(), receiver);
        let (mine, theirs) = UnixStream::pair().unwrap();
        let theirs = Pollable::new(OwnedFd::from(theirs)).unwrap();
        assert!(streams.connect(Kind::Stdout, theirs));
        (streams, ended, writer.into(), mine)
    }

    async fn all(mut stream: UnixStream) -> Vec<u8> {
        tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn an_output_ends_with_its_writers() {
        let (streams, _ended, mut writer, mine) = printing();
        writer.write_all(b"all of it").unwrap();
        drop(writer);
        assert_eq!(all(mine).await, b"all of it");
        streams
            .undrained()
            .wait_for(|left| *left == 0)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_writer_in_the_background_does_not_hold_up_the_end() {
        let (streams, ended, mut writer, mine) = printing();
        writer.write_all(b"before").unwrap();
        ended.send(Some(Exit::now(0))).unwrap();
        assert_eq!(all(mine).await, b"before");
        streams
            .undrained()
            .wait_for(|left| *left == 0)
            .await
            .unwrap();
        // It is not ended by what it prints.
        for _ in 0..100 {
            writer.write_all(&[0; 4096]).unwrap();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn whoever_goes_away_does_not_hold_up_the_process() {
        let (_streams, _ended, mut writer, mine) = printing();
        drop(mine);
        let writing = tokio::task::spawn_blocking(move || writer.write_all(&vec![0; 1 << 20]));
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stream_has_one_connection() {
        let (mut streams, _ended, _writer, _mine) = printing();
        let (_other, theirs) = UnixStream::pair().unwrap();
        let theirs = Pollable::new(OwnedFd::from(theirs)).unwrap();
        assert!(!streams.connect(Kind::Stdout, theirs));
    }

    #[tokio::test]
    async fn input_that_is_closed_is_passed_on_first() {
        let (_ended, receiver) = watch::channel(None);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let end = Arc::new(Pollable::new(writer).unwrap());
        let mut streams = Streams::new([(Kind::Stdin, end)].into(), receiver);
        let (mut mine, theirs) = UnixStream::pair().unwrap();
        mine.write_all(b"last words").unwrap();
        assert!(streams.connect(Kind::Stdin, Pollable::new(theirs.into()).unwrap()));
        streams.close_input();
        let mut reader = std::fs::File::from(reader);
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(read.await.unwrap(), "last words");
    }
}

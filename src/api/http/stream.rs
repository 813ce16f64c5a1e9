//! Event streams (HTML standard §9.2, server-sent events): where events come from, and what one reader gets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::{EventfdFlags, eventfd};

use super::MAX_BEHIND;
use super::outbox::Outbox;
use super::response::push;

/// Events that wait between a sender and the server, which may be busy with a request.
const CAPACITY: usize = 256;

/// Where events are sent from, by any thread. Never waits.
#[derive(Clone, Debug)]
pub(crate) struct EventSink {
    sender: SyncSender<Arc<str>>,
    shared: Arc<Shared>,
}

/// Where the server takes events from.
#[derive(Debug)]
pub(crate) struct EventSource {
    receiver: Receiver<Arc<str>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// An eventfd: something waits.
    wake: OwnedFd,
    /// Events that found the queue full.
    lost: AtomicU64,
}

/// Two ends for events.
///
/// # Errors
/// When there is no descriptor left.
pub(crate) fn events() -> io::Result<(EventSink, EventSource)> {
    let (sender, receiver) = sync_channel(CAPACITY);
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let shared = Arc::new(Shared {
        wake,
        lost: AtomicU64::new(0),
    });
    let sink = EventSink {
        sender,
        shared: shared.clone(),
    };
    Ok((sink, EventSource { receiver, shared }))
}

impl EventSink {
    /// Sends one event to every stream: its lines (`event: paused\ndata: {}`) without the empty line at the end.
    /// When the server is too far behind, the event is lost and counted as such.
    pub(crate) fn send(&self, event: impl Into<Arc<str>>) {
        if self.sender.try_send(event.into()).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.wake();
    }
}

impl Shared {
    fn wake(&self) {
        // A full counter already wakes.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl EventSource {
    /// Takes what waits, a bounded number at a time, and how many events were lost before these.
    pub(super) fn take(&self) -> (u64, Vec<Arc<str>>) {
        // It says only that something waits, which the queue knows better.
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        let events: Vec<_> = self.receiver.try_iter().take(CAPACITY).collect();
        if events.len() == CAPACITY {
            self.shared.wake();
        }
        (lost, events)
    }
}

impl AsFd for EventSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

/// One reader of events.
///
/// **At most [`MAX_BEHIND`] bytes wait for it.** Once it is that far behind it gets nothing until it has read all of
/// them, and then one `event: lost` with the number of events it missed.
#[derive(Debug)]
pub(super) struct Stream {
    chunked: bool,
    lost: u64,
}

impl Stream {
    /// `chunked`: the reader knows chunks (HTTP/1.1).
    pub(super) fn new(chunked: bool) -> Self {
        Self { chunked, lost: 0 }
    }

    /// Puts one event into the reader's outbox, or loses it.
    pub(super) fn offer(&mut self, outbox: &mut Outbox, event: &str) {
        let bytes = self.framed(event);
        if self.lost > 0 || outbox.len() + bytes.len() > MAX_BEHIND {
            self.lost = self.lost.saturating_add(1);
        } else {
            outbox.put(bytes);
        }
    }

    /// Events that never came this far.
    pub(super) fn miss(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// The reader has taken everything: tells what it missed.
    pub(super) fn catch_up(&mut self, outbox: &mut Outbox) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            outbox.put(self.framed(&format!("event: lost\ndata: {lost}")));
        }
    }

    /// Ends the stream in order.
    pub(super) fn finish(&self, outbox: &mut Outbox) {
        if self.chunked {
            outbox.put(b"0\r\n\r\n".to_vec());
        }
    }

    /// An event with its empty line, as one chunk (RFC 9112 §7.1).
    fn framed(&self, event: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(event.len() + 16);
        match self.chunked {
            true => {
                let length = event.len() + 2;
                push(&mut bytes, format_args!("{length:x}\r\n{event}\n\n\r\n"));
            }
            false => push(&mut bytes, format_args!("{event}\n\n")),
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What the outbox holds; it is empty then.
    fn text(outbox: &mut Outbox) -> String {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        outbox.send(ours.as_fd()).unwrap();
        assert!(outbox.is_empty());
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_event_is_one_chunk_with_its_empty_line() {
        let (mut stream, mut outbox) = (Stream::new(true), Outbox::default());
        stream.offer(&mut outbox, "event: a\ndata: {}");
        stream.finish(&mut outbox);
        assert_eq!(
            text(&mut outbox),
            "13\r\nevent: a\ndata: {}\n\n\r\n0\r\n\r\n"
        );
    }

    #[test]
    fn without_chunks_an_event_stands_as_it_is() {
        let (mut stream, mut outbox) = (Stream::new(false), Outbox::default());
        stream.offer(&mut outbox, "data: 1");
        stream.finish(&mut outbox);
        assert_eq!(text(&mut outbox), "data: 1\n\n");
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_lost_is_counted_once() {
        let (mut stream, mut outbox) = (Stream::new(false), Outbox::default());
        let event = "x".repeat(1022);
        for _ in 0..100 {
            stream.offer(&mut outbox, &event);
            assert!(outbox.len() <= MAX_BEHIND);
        }
        assert_eq!(outbox.len(), MAX_BEHIND);
        // Room again, but it has not caught up: the order of what it gets stays that of what happened.
        text(&mut outbox);
        stream.offer(&mut outbox, "small");
        assert!(outbox.is_empty());
        stream.catch_up(&mut outbox);
        assert_eq!(text(&mut outbox), "event: lost\ndata: 37\n\n");
        stream.catch_up(&mut outbox);
        assert!(outbox.is_empty());
        stream.offer(&mut outbox, "small");
        assert_eq!(text(&mut outbox), "small\n\n");
    }

    #[test]
    fn an_event_larger_than_the_bound_is_lost() {
        let (mut stream, mut outbox) = (Stream::new(true), Outbox::default());
        stream.offer(&mut outbox, &"x".repeat(MAX_BEHIND));
        stream.catch_up(&mut outbox);
        assert!(text(&mut outbox).contains("event: lost\ndata: 1\n"));
    }

    #[test]
    fn a_sender_never_waits_and_what_it_loses_is_counted() {
        let (sink, source) = events().unwrap();
        for number in 0..CAPACITY + 10 {
            sink.send(number.to_string());
        }
        let (lost, events) = source.take();
        assert_eq!((lost, events.len()), (10, CAPACITY));
        assert_eq!(&*events[0], "0");
        assert_eq!(source.take().0, 0);
    }

    #[test]
    fn a_sink_without_a_server_is_harmless() {
        let (sink, source) = events().unwrap();
        drop(source);
        sink.send("data: 1");
    }
}

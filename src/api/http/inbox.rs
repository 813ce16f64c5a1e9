//! Bytes of one client that have not become requests yet.

use std::os::fd::OwnedFd;

use super::parse::{self, Head, Refusal};
use super::{MAX_FDS, MAX_HEAD};

/// An empty buffer above this is given back.
const KEPT: usize = 1024;

/// Reassembles requests, one at a time.
///
/// **It holds at most the larger of [`MAX_HEAD`] and the payload limit in bytes, and [`MAX_FDS`] descriptors**, as
/// long as no more than [`room`](Self::room) bytes are put in.
#[derive(Debug)]
pub(super) struct Inbox {
    /// A head and what came behind it; once the head is read, the body and what came behind it.
    bytes: Vec<u8>,
    /// The head whose body is awaited.
    head: Option<Head>,
    /// Bytes that were taken out since the connection began: the place of `bytes` in the stream.
    taken: u64,
    /// Descriptors, each with the place in the stream up to which it was read.
    fds: Vec<(u64, OwnedFd)>,
    /// Bytes came since [`next`](Self::next) last asked for more.
    fresh: bool,
    payload: usize,
}

/// What the bytes make.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// A head whose client waits to be told that the body may come.
    GoOn,
    Request(Whole),
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

impl Inbox {
    /// `payload`: the largest body, in bytes.
    pub(super) fn new(payload: usize) -> Self {
        Self {
            bytes: Vec::new(),
            head: None,
            taken: 0,
            fds: Vec::new(),
            fresh: false,
            payload,
        }
    }

    /// How many bytes may be put in now. Behind a body none are read ahead.
    pub(super) fn room(&self) -> usize {
        let most = self.head.as_ref().map_or(MAX_HEAD, |head| head.length);
        most.saturating_sub(self.bytes.len())
    }

    /// Puts in what one read brought. Descriptors belong to the request that the last of `bytes` belongs to: a read
    /// ends with the message that carries them (unix(7)). Those above the limit are closed.
    pub(super) fn put(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.fresh = true;
        let place = self.taken + self.bytes.len() as u64;
        let room = MAX_FDS - self.fds.len();
        self.fds
            .extend(fds.into_iter().take(room).map(|fd| (place, fd)));
    }

    /// Grows by doubling, but never above what the request in hand may need.
    fn reserve(&mut self, more: usize) {
        let need = self.bytes.len() + more;
        if need > self.bytes.capacity() {
            let most = self.head.as_ref().map_or(MAX_HEAD, |head| head.length);
            let size = (2 * self.bytes.capacity()).min(most).max(need);
            self.bytes.reserve_exact(size - self.bytes.len());
        }
    }

    /// Bytes wait that may be a request: [`next`](Self::next) is worth a call.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// A head is read, and its body is not whole.
    pub(super) fn awaits_body(&self) -> bool {
        self.head.is_some()
    }

    /// The first bytes of a request are here.
    pub(super) fn has_begun(&self) -> bool {
        self.head.is_some() || !self.bytes.is_empty()
    }

    /// The next request, if it is whole.
    ///
    /// # Errors
    /// When the bytes are no request. They are then of no more use.
    pub(super) fn next(&mut self) -> Result<Step, Refusal> {
        if !self.fresh {
            return Ok(Step::Wait);
        }
        if self.head.is_none() && !self.read_head()? {
            self.fresh = false;
            return Ok(Step::Wait);
        }
        match self.head.take_if(|head| self.bytes.len() >= head.length) {
            Some(head) => Ok(Step::Request(self.whole(head))),
            None => {
                self.fresh = false;
                let told = self.head.as_mut().map(|head| &mut head.expects);
                let expects = told.is_some_and(std::mem::take);
                Ok(if expects { Step::GoOn } else { Step::Wait })
            }
        }
    }

    fn read_head(&mut self) -> Result<bool, Refusal> {
        match parse::head(&self.bytes, self.payload)? {
            Some((head, length)) => {
                self.drop_front(length);
                self.head = Some(head);
                Ok(true)
            }
            None if self.bytes.len() >= MAX_HEAD => Err(Refusal::TooLarge),
            None => Ok(false),
        }
    }

    fn whole(&mut self, head: Head) -> Whole {
        let body = match head.length {
            0 => Vec::new(),
            all if all == self.bytes.len() => std::mem::take(&mut self.bytes),
            some => self.bytes[..some].to_vec(),
        };
        // What was taken whole is no longer there to be dropped.
        self.taken += body.len() as u64;
        let rest = body.len().min(self.bytes.len());
        self.bytes.drain(..rest);
        self.shrink();
        self.fresh = !self.bytes.is_empty();
        let place = self.taken;
        let fds = self.fds.extract_if(.., |(end, _)| *end <= place);
        Whole {
            head,
            body,
            fds: fds.map(|(_, fd)| fd).collect(),
        }
    }

    fn drop_front(&mut self, length: usize) {
        self.bytes.drain(..length);
        self.taken += length as u64;
    }

    fn shrink(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Forgets everything; nothing is read from here again.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::super::DEFAULT_PAYLOAD;
    use super::*;

    fn request(inbox: &mut Inbox) -> Whole {
        match inbox.next() {
            Ok(Step::Request(whole)) => whole,
            other => panic!("{other:?}"),
        }
    }

    fn waits(inbox: &mut Inbox) -> bool {
        matches!(inbox.next(), Ok(Step::Wait))
    }

    fn fd() -> OwnedFd {
        eventfd(0, EventfdFlags::CLOEXEC).unwrap()
    }

    const PUT: &[u8] = b"PUT /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";

    #[test]
    fn a_request_is_whole_wherever_it_is_cut() {
        for cut in 1..PUT.len() {
            let mut inbox = Inbox::new(4);
            inbox.put(&PUT[..cut], Vec::new());
            assert!(waits(&mut inbox) && inbox.has_begun(), "{cut}");
            inbox.put(&PUT[cut..], Vec::new());
            let whole = request(&mut inbox);
            assert_eq!(
                (whole.head.path.as_str(), whole.body),
                ("/a", b"body".to_vec())
            );
            assert!(waits(&mut inbox) && !inbox.has_begun(), "{cut}");
        }
    }

    #[test]
    fn requests_that_came_together_come_out_one_by_one() {
        let mut inbox = Inbox::new(4);
        inbox.put(&PUT.repeat(3), Vec::new());
        for _ in 0..3 {
            assert!(inbox.is_fresh());
            assert_eq!(request(&mut inbox).body, b"body");
        }
        assert!(!inbox.is_fresh());
    }

    #[test]
    fn nothing_is_read_behind_a_body() {
        let mut inbox = Inbox::new(100);
        assert_eq!(inbox.room(), MAX_HEAD);
        inbox.put(
            b"PUT /a HTTP/1.1\r\nContent-Length: 100\r\n\r\nbody",
            Vec::new(),
        );
        assert!(waits(&mut inbox));
        assert_eq!(inbox.room(), 96);
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_limit_and_not_before() {
        let mut inbox = Inbox::new(0);
        inbox.put(b"GET /", Vec::new());
        inbox.put(&vec![b'a'; inbox.room() - 1], Vec::new());
        assert!(waits(&mut inbox));
        inbox.put(b"a", Vec::new());
        assert_eq!(inbox.room(), 0);
        assert_eq!(inbox.next().unwrap_err(), Refusal::TooLarge);
    }

    #[test]
    fn a_client_is_told_to_go_on_once_and_only_if_it_waits() {
        let head = b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let mut inbox = Inbox::new(4);
        inbox.put(head, Vec::new());
        assert!(matches!(inbox.next(), Ok(Step::GoOn)));
        inbox.put(b"{", Vec::new());
        assert!(waits(&mut inbox));
        inbox.put(b"}", Vec::new());
        assert_eq!(request(&mut inbox).body, b"{}");

        inbox.put(&[head, &b"{}"[..]].concat(), Vec::new());
        assert_eq!(request(&mut inbox).body, b"{}");
    }

    #[test]
    fn descriptors_go_with_the_bytes_they_came_with() {
        let mut inbox = Inbox::new(4);
        inbox.put(PUT, Vec::new());
        inbox.put(&PUT[..5], vec![fd()]);
        inbox.put(&PUT[5..], vec![fd(), fd()]);
        inbox.put(PUT, Vec::new());
        let counts = [(); 3].map(|()| request(&mut inbox).fds.len());
        assert_eq!(counts, [0, 3, 0]);
    }

    #[test]
    fn no_more_than_sixteen_descriptors_are_held() {
        let mut inbox = Inbox::new(4);
        for cut in 1..PUT.len() {
            inbox.put(&PUT[cut - 1..cut], vec![fd()]);
        }
        inbox.put(b"y", Vec::new());
        assert_eq!(request(&mut inbox).fds.len(), MAX_FDS);
    }

    #[test]
    fn an_empty_inbox_holds_no_memory() {
        let mut inbox = Inbox::new(DEFAULT_PAYLOAD);
        let head = format!("PUT /a HTTP/1.1\r\nContent-Length: {DEFAULT_PAYLOAD}\r\n\r\n");
        inbox.put(head.as_bytes(), Vec::new());
        assert!(waits(&mut inbox));
        while inbox.room() > 0 {
            let some = inbox.room().min(1000);
            inbox.put(&vec![b'x'; some], Vec::new());
            assert!(inbox.capacity() <= DEFAULT_PAYLOAD);
        }
        assert_eq!(request(&mut inbox).body.len(), DEFAULT_PAYLOAD);
        assert_eq!(inbox.capacity(), 0);
    }

    impl Inbox {
        /// Bytes of memory that it holds.
        pub(in super::super) fn capacity(&self) -> usize {
            self.bytes.capacity()
        }
    }
}

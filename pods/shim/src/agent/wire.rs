//! ttrpc's client half, for a peer that is hostile. The crate's own client queues whatever a peer sends for a request,
//! without a bound; here a request has one answer, and anything else ends the connection.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | length of what follows the header, big endian, at most [`protocol::MOST_MESSAGE`] |
//! | 4..8 | which request this belongs to: odd numbers, counted up |
//! | 8 | 1 a request, 2 a response |
//! | 9 | flags, none |

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protobuf::Message;
use protocol::MOST_MESSAGE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as Turn, oneshot, watch};
use tokio::time::timeout;
use ttrpc::{Request, Response};

const HEADER: usize = 10;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
/// How long a peer may take to take a message up, or to send one that it has begun.
const STALL: Duration = Duration::from_secs(30);

/// How a peer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The connection has ended.
    #[error("the connection has ended")]
    Ended,
    /// Its time is over.
    #[error("no answer came in time")]
    Late,
    /// What it sends is no message, or not the one that was asked for.
    #[error("what it says cannot be understood")]
    Unreadable,
    /// What is to be sent is too long.
    #[error("the request is longer than {MOST_MESSAGE} bytes")]
    TooLong,
}

type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Response>>>>;

/// A connection on which requests are made.
#[derive(Debug)]
pub(crate) struct Wire {
    waiting: Waiting,
    out: Turn<Out>,
    end: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct Out {
    half: OwnedWriteHalf,
    last: u32,
}

/// Forgets a request that nobody waits for any more.
struct Ticket<'a> {
    waiting: &'a Waiting,
    number: u32,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.number);
    }
}

impl Wire {
    /// Speaks over `stream`.
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (read, half) = stream.into_split();
        let waiting = Waiting::default();
        let end = Arc::new(watch::Sender::new(false));
        tokio::spawn(listen(read, Arc::clone(&waiting), Arc::clone(&end)));
        Self {
            waiting,
            out: Turn::new(Out { half, last: 0 }),
            end,
        }
    }

    /// Asks, and waits for the one answer; for ever without a limit, while the connection stands.
    ///
    /// # Errors
    /// A peer that breaks the rules, is late, or gone.
    pub(crate) async fn request(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
        limit: Option<Duration>,
    ) -> Result<Response, WireError> {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            ..Default::default()
        };
        let body = request
            .write_to_bytes()
            .map_err(|_| WireError::Unreadable)?;
        if body.len() > MOST_MESSAGE {
            return Err(WireError::TooLong);
        }
        let (sender, answer) = oneshot::channel();
        let ticket = self.send(&body, sender).await?;
        let mut end = self.end.subscribe();
        let answered = async {
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|_| WireError::Ended),
                _ = end.wait_for(|is_over| *is_over) => Err(WireError::Ended),
            }
        };
        let answered = match limit {
            Some(limit) => timeout(limit, answered)
                .await
                .unwrap_or(Err(WireError::Late)),
            None => answered.await,
        };
        drop(ticket);
        if answered == Err(WireError::Late) {
            // Its answer may come later still, to a question that nobody has.
            self.close();
        }
        answered
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.end.send_replace(true);
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        // The sender is this value's own.
        let _ = self.end.subscribe().wait_for(|is_over| *is_over).await;
    }

    async fn send(
        &self,
        body: &[u8],
        sender: oneshot::Sender<Response>,
    ) -> Result<Ticket<'_>, WireError> {
        let mut out = self.out.lock().await;
        if *self.end.borrow() {
            return Err(WireError::Ended);
        }
        let number = if out.last == 0 {
            1
        } else {
            out.last.wrapping_add(2)
        };
        out.last = number;
        let length = u32::try_from(body.len()).map_err(|_| WireError::TooLong)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_be_bytes());
        message.extend(number.to_be_bytes());
        message.extend([REQUEST, 0]);
        message.extend(body);
        lock(&self.waiting).insert(number, sender);
        let ticket = Ticket {
            waiting: &self.waiting,
            number,
        };
        match timeout(STALL, out.half.write_all(&message)).await {
            Ok(Ok(())) => Ok(ticket),
            _ => {
                self.close();
                Err(WireError::Ended)
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<Response>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes answers up until the peer breaks a rule, or either side has ended.
async fn listen(mut read: OwnedReadHalf, waiting: Waiting, end: Arc<watch::Sender<bool>>) {
    let mut over = end.subscribe();
    let error = tokio::select! {
        error = answers(&mut read, &waiting) => error,
        _ = over.wait_for(|is_over| *is_over) => WireError::Ended,
    };
    log::debug!("the connection to the agent is over: {error}");
    end.send_replace(true);
    lock(&waiting).clear();
}

async fn answers(read: &mut OwnedReadHalf, waiting: &Waiting) -> WireError {
    loop {
        match next(read).await {
            Ok((number, response)) => match lock(waiting).remove(&number) {
                // Whoever has given up waiting is no fault of the peer's.
                Some(sender) => drop(sender.send(response)),
                None => return WireError::Unreadable,
            },
            Err(error) => return error,
        }
    }
}

/// The next message: which request it answers, and the answer.
async fn next(read: &mut OwnedReadHalf) -> Result<(u32, Response), WireError> {
    let mut header = [0; HEADER];
    read.read_exact(&mut header[..1]).await.map_err(ended)?;
    let rest = async {
        read.read_exact(&mut header[1..]).await.map_err(ended)?;
        let [a, b, c, d, e, f, g, h, kind, _] = header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MOST_MESSAGE || kind != RESPONSE {
            return Err(WireError::Unreadable);
        }
        let mut body = Vec::new();
        // It grows as bytes come: a length alone costs nothing.
        let taken = read
            .take(length as u64)
            .read_to_end(&mut body)
            .await
            .map_err(ended)?;
        if taken < length {
            return Err(WireError::Ended);
        }
        let response = Response::parse_from_bytes(&body).map_err(|_| WireError::Unreadable)?;
        Ok((u32::from_be_bytes([e, f, g, h]), response))
    };
    timeout(STALL, rest).await.unwrap_or(Err(WireError::Late))
}

fn ended(_: io::Error) -> WireError {
    WireError::Ended
}

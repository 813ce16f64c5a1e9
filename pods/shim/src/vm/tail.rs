//! The last of what a monitor and its guest's kernel have said: for a sentence about a start that failed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is kept, bytes.
const KEPT: usize = 2048;

/// The last bytes of streams that are read for as long as they last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
}

impl Tail {
    /// Reads a stream to its end.
    pub(crate) fn follow(&self, mut stream: impl AsyncRead + Unpin + Send + 'static) {
        let tail = self.clone();
        tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(taken @ 1..) = stream.read(&mut piece).await {
                tail.add(&piece[..taken]);
            }
        });
    }

    fn add(&self, piece: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend(piece);
        let surplus = bytes.len().saturating_sub(KEPT);
        bytes.drain(..surplus);
    }

    /// As one line of text that can be shown.
    pub(crate) fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines = text
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
        let lines: Vec<_> = lines.filter(|line| !line.trim().is_empty()).collect();
        match lines.is_empty() {
            true => "it said nothing".to_owned(),
            false => lines.join("; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_of_it_is_kept() {
        let tail = Tail::default();
        assert_eq!(tail.text(), "it said nothing");
        tail.add(&[b'x'; 5000]);
        tail.add(b"\nthe end\x1b\n");
        assert!(tail.text().ends_with("; the end"));
        assert!(tail.text().len() <= KEPT + 2);
    }
}

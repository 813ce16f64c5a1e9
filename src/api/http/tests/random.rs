//! The parser under bytes that nobody would send, cut where nobody would cut them.

use super::super::inbox::{Inbox, Step};
use super::*;

const CASES: u64 = 20_000;
const PAYLOAD: usize = 3000;

/// xorshift64*: the same bytes for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most);
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Pieces of requests, so that many cases come past the first line.
const PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n\r\n",
    "PUT /a?b HTTP/1.1\r\n",
    "PATCH ",
    "POST / HTTP/1.0\r\n",
    "/",
    " ",
    "HTTP/1.1",
    "\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    "Content-Length: 5\r\n\r\nabcde",
    "Content-Length: 2999\r\n\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "content-length:0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Accept: \u{fc}\r\n",
    "a: b\r\n",
];

/// Whole requests to begin with.
const WHOLE: &[&str] = &[
    "GET / HTTP/1.1\r\n\r\n",
    "PUT /a?b HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde",
    "PATCH /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n\n",
    "\r\n\nDELETE http://x/a HTTP/1.1\nConnection: close\n\n",
];

fn case(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(4) {
        bytes.extend(WHOLE[random.below(WHOLE.len())].bytes());
    }
    for _ in 0..random.below(30) {
        match random.below(12) {
            0 => bytes.extend(random.bytes(50)),
            1 => {
                let byte = random.next().to_le_bytes()[0];
                let count = random.below(2000);
                bytes.extend(std::iter::repeat_n(byte, count));
            }
            2 => bytes.extend("a: b\r\n".repeat(random.below(80)).bytes()),
            _ => bytes.extend(PIECES[random.below(PIECES.len())].bytes()),
        }
    }
    // One byte that is not what it was.
    if !bytes.is_empty() && random.below(2) == 0 {
        let place = random.below(bytes.len());
        bytes[place] = random.next().to_le_bytes()[0];
    }
    bytes
}

/// What comes out when `bytes` are read in parts of at most `part()` bytes.
fn outcome(mut bytes: &[u8], mut part: impl FnMut() -> usize) -> Vec<String> {
    let mut inbox = Inbox::new(PAYLOAD);
    let mut seen = Vec::new();
    loop {
        match inbox.next() {
            Ok(Step::Request(whole)) => {
                assert!(whole.body.len() <= PAYLOAD);
                seen.push(format!("{:?} {:?}", whole.head, whole.body));
                continue;
            }
            Ok(Step::GoOn) => continue,
            Ok(Step::Wait) => {}
            Err(refusal) => {
                seen.push(refusal.to_string());
                return seen;
            }
        }
        let most = inbox.room();
        assert!(most > 0, "nothing can ever come");
        let count = part().clamp(1, most).min(bytes.len());
        if count == 0 {
            return seen;
        }
        inbox.put(&bytes[..count], Vec::new());
        bytes = &bytes[count..];
        assert!(inbox.capacity() <= MAX_HEAD.max(PAYLOAD));
    }
}

#[test]
fn no_bytes_break_the_parser_or_its_bounds_and_cuts_change_nothing() {
    let (mut requests, mut refusals) = (0, 0);
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let bytes = case(&mut random);
        let whole = outcome(&bytes, || usize::MAX);
        let cut = outcome(&bytes, || random.below(40));
        // `expects` is spent when the client was told, which depends on the cuts alone.
        let same = |seen: &[String]| seen.join("\n").replace("expects: true", "expects: false");
        assert_eq!(
            same(&whole),
            same(&cut),
            "seed {seed}: {:?}",
            bytes.escape_ascii()
        );
        requests += whole.iter().filter(|line| line.starts_with("Head")).count();
        refusals += whole
            .iter()
            .filter(|line| !line.starts_with("Head"))
            .count();
    }
    // The cases are worth something: both ends are reached often.
    assert!(
        requests > 10_000 && refusals > 10_000,
        "{requests} {refusals}"
    );
}

//! The command line: what to do, and where the devices are.
//!
//! Words are separated by blanks; a word that is not listed here belongs to somebody else and is passed over.
//!
//! | word | meaning |
//! | --- | --- |
//! | `payload=WORK` | see [`Work`] |
//! | `payload.features=LIST` | virtio features to accept beside VERSION_1: `event_idx`, `indirect`; comma-separated |
//! | `payload.device=N` | use the device number N of its kind, from 0 |
//! | `payload.end=poweroff` | power off when done, instead of a reset |
//! | `virtio_mmio.device=SIZE@ADDRESS:IRQ` | a device, as Linux's parameter; without any, the fixed slots are tried |

/// What the guest does before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// `reset`: nothing, then the keyboard controller's reset.
    Reset,
    /// `poweroff[:STATUS]`: hands STATUS (0) to the exit register and powers off.
    PowerOff(u8),
    /// `crash`: a triple fault.
    Crash,
    /// `idle`: nothing, for ever.
    Idle,
    /// `spin:CYCLES`: two marks on the serial line, CYCLES ticks of the time stamp counter apart.
    Spin(u64),
    /// `list`: prints the virtio devices found.
    List,
    /// `blk:read:SIZE:DEPTH:COUNT`, `blk:write:SIZE:DEPTH:COUNT`: COUNT requests of SIZE bytes at
    /// pseudo-random places, DEPTH of them in flight.
    Blk(Requests),
    /// `blk:verify[:COUNT]`: writes COUNT (64) blocks of 4096 bytes, flushes, reads back and compares.
    BlkVerify(u32),
    /// `blk:zero`: has a block zeroed and reads it back.
    BlkZero,
    /// `net:tx:SIZE:BATCH:COUNT`: COUNT frames of SIZE bytes, at most BATCH in flight.
    NetTx(Requests),
    /// `net:rx:COUNT`: waits for COUNT frames.
    NetRx(u32),
    /// `vsock:tx:SIZE:DEPTH:COUNT`: COUNT packets of SIZE bytes to the host's port 5000, DEPTH of them in flight.
    VsockTx(Requests),
    /// `vsock:rx:MIB`: waits for MIB MiB from there.
    VsockRx(u32),
    /// `rng[:BYTES]`: reads BYTES (64) of entropy.
    Rng(u32),
    /// Anything else.
    Unknown,
}

/// How much a benchmark does at a time and altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// Towards the device: a write, or a frame sent.
    pub outward: bool,
    /// Bytes a request.
    pub size: u32,
    /// Requests in flight at most.
    pub depth: u16,
    /// Requests altogether.
    pub count: u32,
}

/// The command line, borrowed from where the monitor left it.
#[derive(Clone, Copy)]
pub struct CommandLine<'a>(pub &'a str);

impl<'a> CommandLine<'a> {
    /// The work asked for; a command line without any asks for a reset.
    pub fn work(self) -> Work {
        self.value("payload=")
            .map_or(Work::Reset, |text| work(text).unwrap_or(Work::Unknown))
    }

    /// Whether the virtio feature `name` was asked for.
    pub fn feature(self, name: &str) -> bool {
        self.value("payload.features=")
            .is_some_and(|list| list.split(',').any(|one| one == name))
    }

    /// Which device of a kind to use.
    pub fn device(self) -> usize {
        self.value("payload.device=")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    /// Whether to power off at the end.
    pub fn powers_off(self) -> bool {
        self.value("payload.end=") == Some("poweroff")
    }

    /// The addresses of the devices that are named, in order.
    pub fn device_addresses(self) -> impl Iterator<Item = u64> + 'a {
        self.words().filter_map(|word| {
            let (_size, place) = word.strip_prefix("virtio_mmio.device=")?.split_once('@')?;
            number(place.split(':').next()?)
        })
    }

    /// The last value of a word that is given more than once, as for Linux.
    fn value(self, key: &str) -> Option<&'a str> {
        self.words()
            .filter_map(|word| word.strip_prefix(key))
            .last()
    }

    fn words(self) -> impl Iterator<Item = &'a str> {
        self.0.split_ascii_whitespace()
    }
}

fn work(text: &str) -> Option<Work> {
    let mut parts = text.split(':');
    let name = (parts.next()?, parts.clone().next());
    Some(match name {
        ("reset", None) => Work::Reset,
        ("crash", None) => Work::Crash,
        ("idle", None) => Work::Idle,
        ("list", None) => Work::List,
        ("poweroff", status) => Work::PowerOff(status.map_or(Some(0), |text| text.parse().ok())?),
        ("rng", bytes) => Work::Rng(bytes.map_or(Some(64), |text| text.parse().ok())?),
        ("spin", Some(cycles)) => Work::Spin(cycles.parse().ok()?),
        ("blk", Some("zero")) => Work::BlkZero,
        ("blk", Some("verify")) => {
            Work::BlkVerify(parts.nth(1).map_or(Some(64), |text| text.parse().ok())?)
        }
        ("blk", Some("read")) => Work::Blk(requests(false, parts.skip(1))?),
        ("blk", Some("write")) => Work::Blk(requests(true, parts.skip(1))?),
        ("net", Some("tx")) => Work::NetTx(requests(true, parts.skip(1))?),
        ("net", Some("rx")) => Work::NetRx(parts.nth(1)?.parse().ok()?),
        ("vsock", Some("tx")) => Work::VsockTx(requests(true, parts.skip(1))?),
        ("vsock", Some("rx")) => Work::VsockRx(parts.nth(1)?.parse().ok()?),
        _ => return None,
    })
}

fn requests<'a>(outward: bool, mut parts: impl Iterator<Item = &'a str>) -> Option<Requests> {
    let size = parts.next()?.parse().ok()?;
    let depth = parts.next()?.parse().ok()?;
    let count = parts.next()?.parse().ok()?;
    let positive = size > 0 && depth > 0 && count > 0 && parts.next().is_none();
    positive.then_some(Requests {
        outward,
        size,
        depth,
        count,
    })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_read_from_among_other_words() {
        let line = CommandLine("console=ttyS0 payload=blk:write:4096:32:1000 panic=1");
        let expected = Requests {
            outward: true,
            size: 4096,
            depth: 32,
            count: 1000,
        };
        assert_eq!(line.work(), Work::Blk(expected));
    }

    #[test]
    fn defaults_stand_in_for_what_is_left_out() {
        assert_eq!(CommandLine("").work(), Work::Reset);
        assert_eq!(CommandLine("payload=poweroff").work(), Work::PowerOff(0));
        assert_eq!(CommandLine("payload=poweroff:7").work(), Work::PowerOff(7));
        assert_eq!(
            CommandLine("payload=blk:verify").work(),
            Work::BlkVerify(64)
        );
        assert_eq!(CommandLine("payload=rng:16").work(), Work::Rng(16));
    }

    #[test]
    fn the_last_of_two_works_counts() {
        assert_eq!(
            CommandLine("payload=idle payload=net:rx:5").work(),
            Work::NetRx(5)
        );
    }

    #[test]
    fn nonsense_is_unknown() {
        for text in [
            "payload=",
            "payload=blk:read:0:1:1",
            "payload=blk:read:1:1",
            "payload=net:tx:64:x:1",
            "payload=reset:1",
        ] {
            assert_eq!(CommandLine(text).work(), Work::Unknown, "{text}");
        }
    }

    #[test]
    fn devices_are_found_as_linux_finds_them() {
        let line = CommandLine(
            "virtio_mmio.device=4K@0xd0000000:5 x virtio_mmio.device=0x200@0xfeb00e00:12:1",
        );
        assert!(line.device_addresses().eq([0xd000_0000, 0xfeb0_0e00]));
    }

    #[test]
    fn features_and_the_end_are_words_of_their_own() {
        let line = CommandLine(
            "payload.features=event_idx,indirect payload.device=1 payload.end=poweroff",
        );
        assert!(
            line.feature("event_idx") && line.feature("indirect") && !line.feature("ring_reset")
        );
        assert_eq!(line.device(), 1);
        assert!(line.powers_off());
    }
}

//! What a user may say about a network card.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::limiter::RateLimiter;

/// The most bytes of an interface's name: `IFNAMSIZ` without the closing zero.
const NAME_LEN: usize = 15;
/// What the name of a tap begins with that was passed in; no interface of Linux has a colon in its name.
const PASSED: &str = "fd:";
/// The least MTU that IPv4 and virtio allow (virtio 1.2 §5.1.4.1).
const SMALLEST_MTU: u16 = 68;
/// The largest MTU of a tap: 65535 without the Ethernet header.
const LARGEST_MTU: u16 = 65_521;

/// A network card, without the tap behind it: whoever may open taps passes it open. The names are
/// Firecracker's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "NetworkInterface")
)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of the card in messages and updates.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_]{1,64}$")))]
    pub iface_id: String,
    /// The tap on the host.
    pub host_dev_name: TapName,
    /// The card's address. Without one the guest chooses.
    #[serde(default)]
    pub guest_mac: Option<MacAddr>,
    /// The MTU of the card and of its tap. Without one the guest takes its own, mostly 1500.
    #[serde(default)]
    pub mtu: Option<Mtu>,
    /// How much the guest may receive: bytes and frames.
    #[serde(default)]
    pub rx_rate_limiter: Option<RateLimiter>,
    /// How much the guest may send: bytes and frames.
    #[serde(default)]
    pub tx_rate_limiter: Option<RateLimiter>,
}

/// New limits for a card that may be in use; what is left out stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// How much the guest may receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_rate_limiter: Option<RateLimiter>,
    /// How much the guest may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_rate_limiter: Option<RateLimiter>,
}

/// Why a card could not be built or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No timer.
    #[error("cannot make a timer for the limits of network card {id:?}: {source}")]
    Timer {
        /// The card.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No timer for the metadata service's connections.
    #[error("cannot make a timer for the metadata service on network card {id:?}: {source}")]
    MmdsTimer {
        /// The card.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A name that Linux takes for an interface, or `fd:` and the name of a tap that was passed in open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^(fd:[A-Za-z0-9_-]{1,12}|[A-Za-z0-9._-]{1,15})$")))]
#[serde(try_from = "String", into = "String")]
pub struct TapName(String);

/// Why a text is no interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapNameError {
    /// No characters or too many.
    #[error("the tap name {0:?} has {len} bytes; give it 1 to {NAME_LEN}", len = .0.len())]
    Length(String),
    /// Characters that Linux refuses, or that make messages unreadable.
    #[error(
        "the tap name {0:?} is none that Linux takes; use letters, digits, `-`, `_` and `.`, for example `tap0`"
    )]
    Characters(String),
}

impl TapName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TapName {
    type Err = TapNameError;

    fn from_str(text: &str) -> Result<Self, TapNameError> {
        if !(1..=NAME_LEN).contains(&text.len()) {
            return Err(TapNameError::Length(text.to_owned()));
        }
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let plain = text.strip_prefix(PASSED).unwrap_or(text);
        if !plain.bytes().all(is_fine) || ["", ".", ".."].contains(&plain) {
            return Err(TapNameError::Characters(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TapName {
    type Error = TapNameError;

    fn try_from(text: String) -> Result<Self, TapNameError> {
        text.parse()
    }
}

impl From<TapName> for String {
    fn from(name: TapName) -> Self {
        name.0
    }
}

impl fmt::Display for TapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address of one card: neither a group's nor all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$")))]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

/// Why a text is no address of a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacAddrError {
    /// Not six pairs of digits.
    #[error(
        "the MAC address {0:?} is not six pairs of hexadecimal digits such as 06:00:ac:10:00:02"
    )]
    Form(String),
    /// The address of a group.
    #[error(
        "the MAC address {0:?} is one of a group of cards; the second digit must be even, as in 06:00:ac:10:00:02"
    )]
    Group(String),
    /// 00:00:00:00:00:00.
    #[error("the MAC address {0:?} is no card's; use one such as 06:00:ac:10:00:02")]
    Zero(String),
}

impl MacAddr {
    /// An address for the card that a guest has on a tap: locally administered, and the same every time.
    pub fn for_guest(guest: &str, tap: &TapName) -> Self {
        let text = guest.bytes().chain([0]).chain(tap.0.bytes());
        // FNV-1a, whose value no library update changes.
        let hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let [_, _, first, rest @ ..] = hash.to_be_bytes();
        let [b, c, d, e, f] = rest;
        // IEEE 802: bit 0 of the first byte is a group's, bit 1 says that no vendor gave the address.
        Self([(first & 0xfc) | 2, b, c, d, e, f])
    }

    /// The six bytes in the order of the wire.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, MacAddrError> {
        let form = || MacAddrError::Form(text.to_owned());
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or_else(form)?;
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(form());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| form())?;
        }
        if pairs.next().is_some() {
            return Err(form());
        }
        match bytes {
            [first, ..] if first & 1 == 1 => Err(MacAddrError::Group(text.to_owned())),
            [0, 0, 0, 0, 0, 0] => Err(MacAddrError::Zero(text.to_owned())),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacAddrError;

    fn try_from(text: String) -> Result<Self, MacAddrError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// The most bytes of a packet in a frame, Ethernet header excluded: 68 to 65521.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("minimum" = SMALLEST_MTU, "maximum" = LARGEST_MTU)))]
#[serde(try_from = "u64", into = "u64")]
pub struct Mtu(u16);

/// Why a number is no MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an MTU of {0} bytes is not possible; use {SMALLEST_MTU} to {LARGEST_MTU}, mostly 1500")]
pub struct MtuError(u64);

impl Mtu {
    /// The MTU in bytes.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for Mtu {
    type Error = MtuError;

    fn try_from(bytes: u64) -> Result<Self, MtuError> {
        u16::try_from(bytes)
            .ok()
            .filter(|bytes| (SMALLEST_MTU..=LARGEST_MTU).contains(bytes))
            .map(Self)
            .ok_or(MtuError(bytes))
    }
}

impl From<Mtu> for u64 {
    fn from(mtu: Mtu) -> Self {
        mtu.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(text: &str) -> Result<MacAddr, MacAddrError> {
        text.parse()
    }

    #[test]
    fn an_address_reads_as_it_is_written() {
        let text = "06:00:ac:10:00:fe";
        assert_eq!(mac(text).unwrap().bytes(), [6, 0, 0xac, 0x10, 0, 0xfe]);
        assert_eq!(mac(text).unwrap().to_string(), text);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "06",
            "06:00:ac:10:00",
            "06:00:ac:10:00:02:03",
            "06-00-ac-10-00-02",
            "6:0:ac:10:0:2",
            "+6:00:ac:10:00:02",
            "06:00:ac:10:00:g2",
            "06:00:ac:10:00:02 ",
        ] {
            assert_eq!(mac(text), Err(MacAddrError::Form(text.to_owned())));
        }
    }

    #[test]
    fn a_group_and_nobody_are_no_cards() {
        let group = "01:00:5e:00:00:01";
        assert_eq!(mac(group), Err(MacAddrError::Group(group.to_owned())));
        let zero = "00:00:00:00:00:00";
        assert_eq!(mac(zero), Err(MacAddrError::Zero(zero.to_owned())));
    }

    #[test]
    fn a_generated_address_is_local_and_stable() {
        let tap = "tap0".parse().unwrap();
        let made = MacAddr::for_guest("web", &tap);
        assert_eq!(made.to_string(), "8a:6b:26:f0:20:fc");
        assert_eq!(made.bytes()[0] & 3, 2);
        assert_eq!(mac(&made.to_string()), Ok(made));
        assert_ne!(made, MacAddr::for_guest("web2", &tap));
        assert_ne!(made, MacAddr::for_guest("web", &"tap1".parse().unwrap()));
    }

    #[test]
    fn a_name_that_linux_refuses_is_refused() {
        for text in ["", "a-name-of-16-byte"] {
            let error = text.parse::<TapName>().unwrap_err();
            assert!(matches!(error, TapNameError::Length(_)), "{text}: {error}");
        }
        for text in [
            ".", "..", "fd:", "tap/0", "tap 0", "tap%d", "tap:0", "täp", "a\n",
        ] {
            let error = text.parse::<TapName>().unwrap_err();
            assert!(
                matches!(error, TapNameError::Characters(_)),
                "{text}: {error}"
            );
        }
        assert!("a-name-of_15.by".parse::<TapName>().is_ok());
        assert!("fd:tap0".parse::<TapName>().is_ok());
    }

    #[test]
    fn an_mtu_is_what_a_tap_can_have() {
        for bytes in [0, 67, 65_522, 65_536 + 1500, u64::MAX] {
            assert!(Mtu::try_from(bytes).is_err(), "{bytes}");
        }
        for bytes in [68, 1500, 9000, 65_521] {
            assert_eq!(u64::from(Mtu::try_from(bytes).unwrap()), bytes);
        }
    }
}

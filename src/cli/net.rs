//! `--net`: `tap=NAME[,id=ID][,mac=MAC][,mtu=N][,rx-bw=SIZE][,rx-pps=N][,tx-bw=SIZE][,tx-pps=N]`.

use std::fmt::Display;
use std::str::FromStr;

use vmm::spec::{Mtu, NetworkInterface};

use super::options::{expected, limits, per_second};

/// The value of `--net`. The id is empty until [`Net::into_interface`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Net(NetworkInterface);

impl Net {
    /// Reads the value of the flag.
    ///
    /// # Errors
    /// A sentence that names the option that was not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let tap = text
            .split(',')
            .find_map(|option| option.strip_prefix("tap="));
        let tap =
            tap.ok_or("no tap was given: say tap=NAME, a tap that exists or that is to be made")?;
        let mut net = NetworkInterface {
            iface_id: String::new(),
            host_dev_name: parsed(tap)?,
            guest_mac: None,
            mtu: None,
            rx_rate_limiter: None,
            tx_rate_limiter: None,
        };
        text.split(',')
            .try_for_each(|option| set(&mut net, option))?;
        Ok(Self(net))
    }

    /// The interface under the id it was given, or else `id`.
    pub(crate) fn into_interface(self, id: &str) -> NetworkInterface {
        let mut net = self.0;
        if net.iface_id.is_empty() {
            id.clone_into(&mut net.iface_id);
        }
        net
    }
}

fn set(net: &mut NetworkInterface, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    match name {
        "tap" => net.host_dev_name = parsed(value)?,
        "id" => value.clone_into(&mut net.iface_id),
        "mac" => net.guest_mac = Some(parsed(value)?),
        "mtu" => net.mtu = Some(mtu(value)?),
        "rx-bw" => limits(&mut net.rx_rate_limiter).bandwidth = Some(per_second(value)?),
        "rx-pps" => limits(&mut net.rx_rate_limiter).ops = Some(per_second(value)?),
        "tx-bw" => limits(&mut net.tx_rate_limiter).bandwidth = Some(per_second(value)?),
        "tx-pps" => limits(&mut net.tx_rate_limiter).ops = Some(per_second(value)?),
        _ => {
            return Err(format!(
                "`{option}` was given and one of tap=, id=, mac=, mtu=, rx-bw=, rx-pps=, tx-bw=, tx-pps= \
                 was expected"
            ));
        }
    }
    Ok(())
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn mtu(text: &str) -> Result<Mtu, String> {
    let bytes: u64 = text.parse().map_err(|_| expected("mtu", text, "1500"))?;
    Mtu::try_from(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_understood() {
        let text = "tap=tap0,id=lan,mac=06:00:00:00:00:01,mtu=1400,rx-bw=1M,tx-pps=100";
        let net = Net::parse(text).unwrap().into_interface("eth0");
        assert_eq!(
            (net.host_dev_name.as_str(), net.iface_id.as_str()),
            ("tap0", "lan")
        );
        assert_eq!(net.guest_mac.unwrap().to_string(), "06:00:00:00:00:01");
        assert_eq!(net.mtu.unwrap().get(), 1400);
        assert_eq!(
            net.rx_rate_limiter.unwrap().bandwidth.unwrap().size,
            1 << 20
        );
        assert_eq!(net.tx_rate_limiter.unwrap().ops.unwrap().size, 100);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(Net::parse("mtu=1500").unwrap_err().contains("no tap"));
        assert!(Net::parse("tap=a,mtu=x").unwrap_err().contains("mtu=x"));
        assert!(
            Net::parse("tap=a,speed=1")
                .unwrap_err()
                .contains("`speed=1`")
        );
    }
}

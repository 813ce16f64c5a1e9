//! `--net`: `tap=NAME[,id=ID][,mac=MAC][,mtu=N][,rx-bw=SIZE][,rx-pps=N][,tx-bw=SIZE][,tx-pps=N]`.

use vmm::spec::{NetworkInterface, RateLimiter};

use super::disk::{expected, per_second};

/// The value of `--net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Net(NetworkInterface);

impl Net {
    /// Reads the value of the flag.
    ///
    /// # Errors
    /// A sentence that names the option that was not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut net = NetworkInterface::default();
        text.split(',')
            .try_for_each(|option| set(&mut net, option))?;
        if net.host_dev_name.is_empty() {
            return Err(
                "no tap was given: say tap=NAME, a tap that exists or that is to be made"
                    .to_owned(),
            );
        }
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
        "tap" => value.clone_into(&mut net.host_dev_name),
        "id" => value.clone_into(&mut net.iface_id),
        "mac" => net.guest_mac = Some(value.to_owned()),
        "mtu" => {
            let mtu = value
                .parse()
                .map_err(|_| expected("mtu", value, "68 to 65535"))?;
            net.mtu = Some(mtu);
        }
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

fn limits(limiter: &mut Option<RateLimiter>) -> &mut RateLimiter {
    limiter.get_or_insert_with(RateLimiter::default)
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
        assert_eq!(net.guest_mac.as_deref(), Some("06:00:00:00:00:01"));
        assert_eq!(net.mtu, Some(1400));
        assert_eq!(
            net.rx_rate_limiter.unwrap().bandwidth.unwrap().size,
            1 << 20
        );
        assert_eq!(net.tx_rate_limiter.unwrap().ops.unwrap().size, 100);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(Net::parse("mac=1").unwrap_err().contains("no tap"));
        assert!(Net::parse("tap=a,mtu=x").unwrap_err().contains("mtu=x"));
        assert!(
            Net::parse("tap=a,speed=1")
                .unwrap_err()
                .contains("`speed=1`")
        );
    }
}

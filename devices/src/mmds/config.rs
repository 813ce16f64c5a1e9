//! What a user may say about the metadata service.

use std::net::Ipv4Addr;

/// Where a guest finds its metadata unless the user says otherwise.
const DEFAULT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The metadata service as a user describes it. The names are Firecracker's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "MmdsConfig")
)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether a guest needs a session token.
    #[serde(default)]
    pub version: Version,
    /// The cards, by their `iface_id`, on which the service is reached: at least one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub network_interfaces: Vec<String>,
    /// The service's address on those cards, a link-local one. Without one it is 169.254.169.254.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<Ipv4Addr>,
    /// Whether every answer is text as EC2's service gives it, whatever the request accepts.
    #[serde(default)]
    pub imds_compat: bool,
}

/// Which requests are answered.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, Hash,
)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "MmdsVersion")
)]
pub enum Version {
    /// Every request, with or without a token. Deprecated by Firecracker, and its default.
    #[default]
    V1,
    /// Those with a session token that is still valid.
    V2,
}

/// Why a description cannot be used. The texts are Firecracker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No card.
    #[error("The list of network interface IDs that allow forwarding MMDS requests is empty.")]
    NoInterfaces,
    /// A card that the VM does not have.
    #[error(
        "The list of network interface IDs provided contains at least one ID that does not correspond to any existing network interface."
    )]
    UnknownInterface,
    /// An address that no link-local host may have (RFC 3927 §2.1).
    #[error("The MMDS IPv4 address is not link local.")]
    Address,
}

impl Config {
    /// Where the guest finds the service.
    pub fn address(&self) -> Ipv4Addr {
        self.ipv4_address.unwrap_or(DEFAULT_ADDRESS)
    }

    /// Whether the card `iface_id` reaches the service.
    pub fn serves(&self, iface_id: &str) -> bool {
        self.network_interfaces.iter().any(|id| id == iface_id)
    }

    /// Checks all that can be checked without the VM, then each card with `is_known`.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self, is_known: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        if self.network_interfaces.is_empty() {
            return Err(ConfigError::NoInterfaces);
        }
        // RFC 3927 §2.1: the first and the last 256 addresses are reserved.
        match self.address().octets() {
            [169, 254, 1..=254, _] => {}
            _ => return Err(ConfigError::Address),
        }
        if !self.network_interfaces.iter().all(|id| is_known(id)) {
            return Err(ConfigError::UnknownInterface);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_firecrackers_defaults() {
        let config = read(r#"{"network_interfaces":["eth0"]}"#).unwrap();
        assert_eq!(config.version, Version::V1);
        assert_eq!(config.address().to_string(), "169.254.169.254");
        assert!(!config.imds_compat);
        assert!(config.serves("eth0") && !config.serves("eth1"));
    }

    #[test]
    fn a_config_reads_as_it_is_written() {
        let text = r#"{"version":"V2","network_interfaces":["a","b"],"ipv4_address":"169.254.1.1","imds_compat":true}"#;
        let config = read(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(config.validate(|id| id != "c"), Ok(()));
    }

    #[test]
    fn an_unknown_field_or_version_is_refused() {
        let error = read(r#"{"network_interfaces":["a"],"port":80}"#).unwrap_err();
        assert!(error.starts_with("unknown field `port`"), "{error}");
        let error = read(r#"{"network_interfaces":["a"],"version":"V3"}"#).unwrap_err();
        assert!(error.starts_with("unknown variant `V3`"), "{error}");
        let error = read("{}").unwrap_err();
        assert!(
            error.starts_with("missing field `network_interfaces`"),
            "{error}"
        );
    }

    #[test]
    fn only_a_link_local_address_outside_the_reserved_ones_is_taken() {
        let with = |address: &str| Config {
            version: Version::V1,
            network_interfaces: vec!["eth0".to_owned()],
            ipv4_address: Some(address.parse().unwrap()),
            imds_compat: false,
        };
        for address in [
            "169.254.1.0",
            "169.254.169.254",
            "169.254.254.255",
            "169.254.170.2",
        ] {
            assert_eq!(with(address).validate(|_| true), Ok(()), "{address}");
        }
        for address in [
            "169.254.0.1",
            "169.254.255.1",
            "169.253.1.1",
            "1.1.1.1",
            "0.0.0.0",
        ] {
            let refused = Err(ConfigError::Address);
            assert_eq!(with(address).validate(|_| true), refused, "{address}");
        }
    }

    #[test]
    fn the_cards_must_be_some_and_be_there() {
        let mut config = read(r#"{"network_interfaces":["a","b"]}"#).unwrap();
        let known = |id: &str| id == "a";
        assert_eq!(config.validate(known), Err(ConfigError::UnknownInterface));
        config.network_interfaces.clear();
        assert_eq!(config.validate(known), Err(ConfigError::NoInterfaces));
    }
}

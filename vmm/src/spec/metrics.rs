//! Where the figures of a VM go: the body of `PUT /metrics`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the figures of a VM go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// A file or a named pipe of the host; a file is created when it is not there.
    pub metrics_path: String,
    /// Whether each line carries the VM's id, as `id`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emit_id: bool,
    /// What each line carries under `properties`, as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_all_that_is_needed() {
        let config: MetricsConfig = serde_json::from_str(r#"{"metrics_path":"m"}"#).unwrap();
        assert_eq!(
            (config.emit_id, config.properties.is_empty()),
            (false, true)
        );
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"metrics_path":"m"}"#
        );
    }

    #[test]
    fn what_was_given_is_given_back() {
        let text = r#"{"metrics_path":"m","emit_id":true,"properties":{"a":"1","b":"2"}}"#;
        let config: MetricsConfig = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
    }

    #[test]
    fn a_field_that_is_not_there_is_refused_by_name() {
        let parse = |text| serde_json::from_str::<MetricsConfig>(text).unwrap_err();
        let unknown = parse(r#"{"metrics_path":"m","metrics_fifo":"n"}"#).to_string();
        assert!(
            unknown.contains("unknown field `metrics_fifo`"),
            "{unknown}"
        );
        let missing = parse("{}").to_string();
        assert!(
            missing.contains("missing field `metrics_path`"),
            "{missing}"
        );
    }
}

//! How ravelin logs: the body of `PUT /logger`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How ravelin logs. What is absent stays as it is, except the level, which is then `Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoggerConfig {
    /// A file or a named pipe of the host; a file is created when it is not there.
    #[serde(default)]
    pub log_path: Option<String>,
    /// The least severe kind of line that is written.
    #[serde(default)]
    pub level: Option<LogLevel>,
    /// Whether a line says how severe it is.
    #[serde(default)]
    pub show_level: Option<bool>,
    /// Whether a line says which file and line of the source it comes from.
    #[serde(default)]
    pub show_log_origin: Option<bool>,
    /// Only lines from modules whose path begins with this.
    #[serde(default)]
    pub module: Option<String>,
}

/// How much is logged. Read in any case, and `Warning` too; the names are Firecracker's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("enum" = ["Off", "Error", "Warn", "Warning", "Info", "Debug", "Trace"])))]
#[serde(try_from = "String")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And what has happened.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And everything else.
    Trace,
}

/// A level with no such name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log level `{0}` was given and Error, Warning, Info, Debug, Trace or Off was expected")]
pub struct BadLogLevel(pub String);

impl LoggerConfig {
    /// This, and where it says nothing what was said `before`.
    pub(crate) fn over(self, before: Self) -> Self {
        Self {
            log_path: self.log_path.or(before.log_path),
            level: self.level.or(before.level),
            show_level: self.show_level.or(before.show_level),
            show_log_origin: self.show_log_origin.or(before.show_log_origin),
            module: self.module.or(before.module),
        }
    }
}

impl FromStr for LogLevel {
    type Err = BadLogLevel;

    fn from_str(name: &str) -> Result<Self, BadLogLevel> {
        let names = [
            ("off", Self::Off),
            ("error", Self::Error),
            ("warn", Self::Warn),
            ("warning", Self::Warn),
            ("info", Self::Info),
            ("debug", Self::Debug),
            ("trace", Self::Trace),
        ];
        let found = names
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .map(|(_, level)| *level)
            .ok_or_else(|| BadLogLevel(name.to_owned()))
    }
}

impl TryFrom<String> for LogLevel {
    type Error = BadLogLevel;

    fn try_from(name: String) -> Result<Self, BadLogLevel> {
        name.parse()
    }
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::Off,
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        for (name, level) in [
            ("Off", LogLevel::Off),
            ("ERROR", LogLevel::Error),
            ("Warn", LogLevel::Warn),
            ("WARNING", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("dEbUg", LogLevel::Debug),
            ("Trace", LogLevel::Trace),
        ] {
            let text = format!(r#"{{"level":"{name}"}}"#);
            let config: LoggerConfig = serde_json::from_str(&text).unwrap();
            assert_eq!(config.level, Some(level), "{name}");
        }
        assert_eq!(
            "loud".parse::<LogLevel>(),
            Err(BadLogLevel("loud".to_owned()))
        );
    }

    #[test]
    fn null_is_as_good_as_nothing() {
        let text = r#"{"log_path":null,"level":null,"show_level":null,"show_log_origin":null,"module":null}"#;
        let config: LoggerConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config, LoggerConfig::default());
        assert_eq!(
            serde_json::from_str::<LoggerConfig>("{}").unwrap(),
            LoggerConfig::default()
        );
    }

    #[test]
    fn a_field_that_is_not_there_is_refused_by_name() {
        let error = serde_json::from_str::<LoggerConfig>(r#"{"log_fifo":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `log_fifo`"));
    }
}

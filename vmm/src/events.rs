//! What happens to a VM, for whoever watches it.

use serde::Serialize;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The vCPUs run for the first time.
    Started,
    /// They are parked.
    Paused,
    /// They run again.
    Resumed,
    /// A device has a new setting.
    DeviceUpdated {
        /// Its id.
        id: String,
    },
    /// A device has met an error from which only a reset by its driver recovers (virtio 1.2 §2.1.2).
    DeviceFailed {
        /// Its id.
        id: String,
    },
    /// The guest has ended.
    Ended {
        /// How, in a sentence.
        reason: String,
        /// The exit status that the process will have.
        exit_code: u8,
    },
}

impl Event {
    /// Its name, as in its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::DeviceUpdated { .. } => "device_updated",
            Self::DeviceFailed { .. } => "device_failed",
            Self::Ended { .. } => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_in_the_json() {
        for event in [
            Event::Started,
            Event::DeviceFailed {
                id: "disk".to_owned(),
            },
            Event::Ended {
                reason: "reset".to_owned(),
                exit_code: 0,
            },
        ] {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["event"], event.name());
        }
    }
}

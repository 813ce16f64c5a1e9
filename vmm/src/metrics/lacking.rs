//! Groups of devices that a VM or this version lacks: Firecracker's clients expect every group in every line.

use devices::metrics::{Audience, Figure, Group, Value};

/// A group that has its keys and nothing to tell. A key that ends in `_agg` is a latency.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacking(&'static [&'static str]);

pub(super) const BALLOON: Lacking = Lacking(&[
    "activate_fails",
    "cfg_fails",
    "inflate_count",
    "stats_updates_count",
    "stats_update_fails",
    "deflate_count",
    "event_fails",
    "free_page_report_count",
    "free_page_report_freed",
    "free_page_report_fails",
    "free_page_hint_count",
    "free_page_hint_freed",
    "free_page_hint_fails",
]);

pub(super) const PMEM: Lacking = Lacking(&[
    "activate_fails",
    "cfg_fails",
    "event_fails",
    "queue_event_count",
    "rate_limiter_throttled_events",
    "rate_limiter_event_count",
]);

/// Of a VM that has no device with an interrupt.
pub(super) const INTERRUPTS: Lacking = Lacking(&["triggers", "config_updates"]);

pub(super) const MEMORY_HOTPLUG: Lacking = Lacking(&[
    "activate_fails",
    "queue_event_fails",
    "queue_event_count",
    "plug_agg",
    "plug_count",
    "plug_bytes",
    "plug_fails",
    "unplug_agg",
    "unplug_count",
    "unplug_bytes",
    "unplug_fails",
    "unplug_discard_fails",
    "unplug_all_agg",
    "unplug_all_count",
    "unplug_all_fails",
    "state_agg",
    "state_count",
    "state_fails",
]);

impl Group for Lacking {
    fn visit(&self, see: &mut dyn FnMut(Figure)) {
        for key in self.0 {
            let value = if key.ends_with("_agg") {
                Value::Latency {
                    min_us: 0,
                    max_us: 0,
                    sum_us: 0,
                }
            } else {
                Value::Count(0)
            };
            see(Figure {
                key,
                help: "The device is not there.",
                audience: Audience::All,
                value,
            });
        }
    }
}

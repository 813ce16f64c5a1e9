//! One module a resource: from a body to a command.

pub(super) mod actions;
pub(super) mod balloon;
pub(super) mod boot_source;
pub(super) mod cpu_config;
pub(super) mod drives;
pub(super) mod entropy;
pub(super) mod instance;
pub(super) mod logger;
pub(super) mod machine_config;
pub(super) mod memory_hotplug;
pub(super) mod metrics;
pub(super) mod mmds;
pub(super) mod network;
pub(super) mod own;
pub(super) mod pmem;
pub(super) mod serial;
pub(super) mod snapshot;
pub(super) mod vm;
pub(super) mod vsock;

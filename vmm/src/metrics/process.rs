//! What the process counts, whatever devices its VM has.

use std::sync::Arc;

use devices::metrics::{Counter, Level, Never};

devices::group! {
    /// What the start of the process took.
    pub struct ApiServer {
        /// Microseconds from the start of the process, as the jailer saw it, until the API was served.
        pub process_startup_time_us: Level,
        /// Microseconds of processor time until the API was served, those of the jailer included.
        pub process_startup_time_cpu_us: Level,
    }
}

devices::group! {
    /// Deprecated ways to ask.
    pub struct DeprecatedApi {
        /// Requests that use a deprecated field or path.
        pub deprecated_http_api_calls: Counter,
    }
}

devices::group! {
    /// GET requests.
    pub struct GetRequests {
        /// Requests for what the instance is.
        pub instance_info_count: Counter,
        /// Requests for the machine configuration.
        pub machine_cfg_count: Counter,
        /// Requests for the MMDS's data.
        pub mmds_count: Counter,
        /// Requests for the version.
        pub vmm_version_count: Counter,
        /// Requests for the state of hot-plugged memory.
        pub hotplug_memory_count: Counter,
    }
}

devices::group! {
    /// PATCH requests, and those of them that were refused.
    pub struct PatchRequests {
        /// Changes of a drive.
        pub drive_count: Counter,
        /// Changes of a drive that were refused.
        pub drive_fails: Counter,
        /// Changes of a network interface.
        pub network_count: Counter,
        /// Changes of a network interface that were refused.
        pub network_fails: Counter,
        /// Changes of the machine configuration.
        pub machine_cfg_count: Counter,
        /// Changes of the machine configuration that were refused.
        pub machine_cfg_fails: Counter,
        /// Changes of the MMDS's data.
        pub mmds_count: Counter,
        /// Changes of the MMDS's data that were refused.
        pub mmds_fails: Counter,
        /// Changes of hot-plugged memory.
        pub hotplug_memory_count: Counter,
        /// Changes of hot-plugged memory that were refused.
        pub hotplug_memory_fails: Counter,
        /// Changes of a persistent-memory device.
        pub pmem_count: Counter,
        /// Changes of a persistent-memory device that were refused.
        pub pmem_fails: Counter,
    }
}

devices::group! {
    /// PUT requests, and those of them that were refused.
    pub struct PutRequests {
        /// Actions.
        pub actions_count: Counter,
        /// Actions that were refused.
        pub actions_fails: Counter,
        /// Boot sources.
        pub boot_source_count: Counter,
        /// Boot sources that were refused.
        pub boot_source_fails: Counter,
        /// Drives.
        pub drive_count: Counter,
        /// Drives that were refused.
        pub drive_fails: Counter,
        /// Settings of the log.
        pub logger_count: Counter,
        /// Settings of the log that were refused.
        pub logger_fails: Counter,
        /// Machine configurations.
        pub machine_cfg_count: Counter,
        /// Machine configurations that were refused.
        pub machine_cfg_fails: Counter,
        /// Processor templates.
        pub cpu_cfg_count: Counter,
        /// Processor templates that were refused.
        pub cpu_cfg_fails: Counter,
        /// Settings of the metrics.
        pub metrics_count: Counter,
        /// Settings of the metrics that were refused.
        pub metrics_fails: Counter,
        /// Network interfaces.
        pub network_count: Counter,
        /// Network interfaces that were refused.
        pub network_fails: Counter,
        /// Settings or data of the MMDS.
        pub mmds_count: Counter,
        /// Settings or data of the MMDS that were refused.
        pub mmds_fails: Counter,
        /// Vsock devices.
        pub vsock_count: Counter,
        /// Vsock devices that were refused.
        pub vsock_fails: Counter,
        /// Persistent-memory devices.
        pub pmem_count: Counter,
        /// Persistent-memory devices that were refused.
        pub pmem_fails: Counter,
        /// Settings of the serial port.
        pub serial_count: Counter,
        /// Settings of the serial port that were refused.
        pub serial_fails: Counter,
        /// Settings of hot-plugged memory.
        pub hotplug_memory_count: Counter,
        /// Settings of hot-plugged memory that were refused.
        pub hotplug_memory_fails: Counter,
    }
}

devices::group! {
    /// How long the last snapshot, pause and resume took, as their callers saw it and inside the VMM.
    pub struct Latencies {
        /// Microseconds that the last full snapshot took, with its request.
        pub full_create_snapshot: Level,
        /// Microseconds that the last differential snapshot took, with its request.
        pub diff_create_snapshot: Level,
        /// Microseconds that the last load of a snapshot took, with its request.
        pub load_snapshot: Level,
        /// Microseconds that the last pause took, with its request.
        pub pause_vm: Level,
        /// Microseconds that the last resume took, with its request.
        pub resume_vm: Level,
        /// Microseconds that the last full snapshot took.
        pub vmm_full_create_snapshot: Level,
        /// Microseconds that the last differential snapshot took.
        pub vmm_diff_create_snapshot: Level,
        /// Microseconds that the last load of a snapshot took.
        pub vmm_load_snapshot: Level,
        /// Microseconds that the last pause took.
        pub vmm_pause_vm: Level,
        /// Microseconds that the last resume took.
        pub vmm_resume_vm: Level,
    }
}

devices::group! {
    /// What became of lines of the log and of the metrics.
    pub struct Logger {
        /// Lines of metrics that were lost.
        pub missed_metrics_count: Counter,
        /// Failures to put a line of metrics together: none can.
        pub metrics_fails: Never,
        /// Lines of the log that were lost.
        pub missed_log_count: Counter,
        /// Lines of the log that were kept back because there were too many from one place.
        pub rate_limited_log_count: Counter,
    }
}

devices::group! {
    /// System calls that were refused.
    pub struct Seccomp {
        /// System calls that a filter refused.
        pub num_faults: Level,
    }
}

devices::group! {
    /// The VMM as a whole.
    pub struct Vmm {
        /// Panics.
        pub panic_count: Level,
    }
}

devices::group! {
    /// Signals that came.
    pub struct Signals {
        /// SIGBUS.
        pub sigbus: Level,
        /// SIGSEGV.
        pub sigsegv: Level,
        /// SIGXFSZ.
        pub sigxfsz: Level,
        /// SIGXCPU.
        pub sigxcpu: Level,
        /// SIGPIPE: it is ignored, and a write fails instead.
        pub sigpipe: Never,
        /// SIGHUP.
        pub sighup: Level,
        /// SIGILL.
        pub sigill: Level,
    }
}

/// The process's counters. A clone counts into the same ones: each thread that counts has one.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// What the start took.
    pub api_server: Arc<ApiServer>,
    /// Deprecated ways to ask.
    pub deprecated_api: Arc<DeprecatedApi>,
    /// GET requests.
    pub get_api_requests: Arc<GetRequests>,
    /// PATCH requests.
    pub patch_api_requests: Arc<PatchRequests>,
    /// PUT requests.
    pub put_api_requests: Arc<PutRequests>,
    /// How long things took.
    pub latencies_us: Arc<Latencies>,
    /// Lines that were lost.
    pub logger: Arc<Logger>,
    /// System calls that were refused.
    pub seccomp: Arc<Seccomp>,
    /// The VMM as a whole.
    pub vmm: Arc<Vmm>,
    /// Signals that came.
    pub signals: Arc<Signals>,
}

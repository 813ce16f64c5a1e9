//! Requests of the API, counted by their method and by what they ask about.

use devices::metrics::Counter;

use super::Process;

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// See.
    Get,
    /// Set.
    Put,
    /// Change.
    Patch,
}

impl Process {
    /// A request has come. `resource` is the first part of its path: `drives` of `/drives/rootfs`, and nothing of
    /// `/`. What Firecracker does not count is not counted.
    pub fn request(&self, verb: Verb, resource: &str) {
        if let (Some(came), _) = self.counters(verb, resource) {
            came.increment();
        }
    }

    /// A request that has come was refused for what it says.
    pub fn refused(&self, verb: Verb, resource: &str) {
        if let (_, Some(refused)) = self.counters(verb, resource) {
            refused.increment();
        }
    }

    fn counters(&self, verb: Verb, resource: &str) -> (Option<&Counter>, Option<&Counter>) {
        match verb {
            Verb::Get => (self.get_counter(resource), None),
            Verb::Put => both(self.put_counters(resource)),
            Verb::Patch => both(self.patch_counters(resource)),
        }
    }

    fn get_counter(&self, resource: &str) -> Option<&Counter> {
        let get = &self.get_api_requests;
        Some(match resource {
            "" => &get.instance_info_count,
            "version" => &get.vmm_version_count,
            "machine-config" => &get.machine_cfg_count,
            "mmds" => &get.mmds_count,
            "hotplug" => &get.hotplug_memory_count,
            _ => return None,
        })
    }

    fn put_counters(&self, resource: &str) -> Option<(&Counter, &Counter)> {
        let put = &self.put_api_requests;
        Some(match resource {
            "actions" => (&put.actions_count, &put.actions_fails),
            "boot-source" => (&put.boot_source_count, &put.boot_source_fails),
            "drives" => (&put.drive_count, &put.drive_fails),
            "logger" => (&put.logger_count, &put.logger_fails),
            "machine-config" => (&put.machine_cfg_count, &put.machine_cfg_fails),
            "cpu-config" => (&put.cpu_cfg_count, &put.cpu_cfg_fails),
            "metrics" => (&put.metrics_count, &put.metrics_fails),
            "network-interfaces" => (&put.network_count, &put.network_fails),
            "mmds" => (&put.mmds_count, &put.mmds_fails),
            "vsock" => (&put.vsock_count, &put.vsock_fails),
            "pmem" => (&put.pmem_count, &put.pmem_fails),
            "serial" => (&put.serial_count, &put.serial_fails),
            "hotplug" => (&put.hotplug_memory_count, &put.hotplug_memory_fails),
            _ => return None,
        })
    }

    fn patch_counters(&self, resource: &str) -> Option<(&Counter, &Counter)> {
        let patch = &self.patch_api_requests;
        Some(match resource {
            "drives" => (&patch.drive_count, &patch.drive_fails),
            "network-interfaces" => (&patch.network_count, &patch.network_fails),
            "machine-config" => (&patch.machine_cfg_count, &patch.machine_cfg_fails),
            "mmds" => (&patch.mmds_count, &patch.mmds_fails),
            "hotplug" => (&patch.hotplug_memory_count, &patch.hotplug_memory_fails),
            "pmem" => (&patch.pmem_count, &patch.pmem_fails),
            _ => return None,
        })
    }
}

fn both<'a>(
    pair: Option<(&'a Counter, &'a Counter)>,
) -> (Option<&'a Counter>, Option<&'a Counter>) {
    match pair {
        Some((came, refused)) => (Some(came), Some(refused)),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use devices::metrics::{Group, Value};

    use super::*;

    /// Every key of the three groups that has counted, with its count.
    fn counted(process: &Process) -> Vec<(&'static str, u64)> {
        let groups: [&dyn Group; 3] = [
            process.get_api_requests.as_ref(),
            process.put_api_requests.as_ref(),
            process.patch_api_requests.as_ref(),
        ];
        let figures = groups.iter().flat_map(|group| group.figures());
        let some = figures.filter_map(|figure| match figure.value {
            Value::Count(n @ 1..) => Some((figure.key, n)),
            _ => None,
        });
        some.collect()
    }

    #[test]
    fn a_request_counts_by_its_method_and_resource_and_once_more_if_it_is_refused() {
        let process = Process::default();
        process.request(Verb::Get, "");
        process.request(Verb::Put, "drives");
        process.refused(Verb::Put, "drives");
        process.request(Verb::Patch, "drives");
        process.request(Verb::Patch, "vm");
        process.refused(Verb::Get, "version");
        let expected = [
            ("instance_info_count", 1),
            ("drive_count", 1),
            ("drive_fails", 1),
            ("drive_count", 1),
        ];
        assert_eq!(counted(&process), expected);
    }

    #[test]
    fn every_counter_has_its_resource() {
        let process = Process::default();
        let resources = [
            "",
            "version",
            "machine-config",
            "mmds",
            "hotplug",
            "actions",
            "boot-source",
            "drives",
            "logger",
            "cpu-config",
            "metrics",
            "network-interfaces",
            "vsock",
            "pmem",
            "serial",
        ];
        for resource in resources {
            for verb in [Verb::Get, Verb::Put, Verb::Patch] {
                process.request(verb, resource);
                process.refused(verb, resource);
            }
        }
        let groups: [&dyn Group; 3] = [
            process.get_api_requests.as_ref(),
            process.put_api_requests.as_ref(),
            process.patch_api_requests.as_ref(),
        ];
        let all = groups
            .iter()
            .map(|group| group.figures().len())
            .sum::<usize>();
        let counted = counted(&process);
        assert_eq!(counted.len(), all);
        assert!(counted.iter().all(|(_, n)| *n == 1), "{counted:?}");
    }
}

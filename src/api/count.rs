//! Which of Firecracker's counters a request belongs to.

use vmm::metrics::{Counter, Process};

use super::http::Method;

/// The counter of requests to a row of the table, and the one of those that were refused.
pub(super) fn of<'a>(
    process: &'a Process,
    method: Method,
    path: &str,
) -> Option<(&'a Counter, Option<&'a Counter>)> {
    match method {
        Method::Get => gets(process, path).map(|count| (count, None)),
        Method::Put => puts(process, path).map(|(count, fails)| (count, Some(fails))),
        Method::Patch => patches(process, path).map(|(count, fails)| (count, Some(fails))),
        Method::Delete => None,
    }
}

fn gets<'a>(process: &'a Process, path: &str) -> Option<&'a Counter> {
    let get = &process.get_api_requests;
    Some(match path {
        "/" => &get.instance_info_count,
        "/version" => &get.vmm_version_count,
        "/machine-config" => &get.machine_cfg_count,
        "/mmds" => &get.mmds_count,
        "/hotplug/memory" => &get.hotplug_memory_count,
        _ => return None,
    })
}

fn puts<'a>(process: &'a Process, path: &str) -> Option<(&'a Counter, &'a Counter)> {
    let put = &process.put_api_requests;
    Some(match path {
        "/actions" => (&put.actions_count, &put.actions_fails),
        "/boot-source" => (&put.boot_source_count, &put.boot_source_fails),
        "/drives/{drive_id}" => (&put.drive_count, &put.drive_fails),
        "/logger" => (&put.logger_count, &put.logger_fails),
        "/machine-config" => (&put.machine_cfg_count, &put.machine_cfg_fails),
        "/cpu-config" => (&put.cpu_cfg_count, &put.cpu_cfg_fails),
        "/metrics" => (&put.metrics_count, &put.metrics_fails),
        "/network-interfaces/{iface_id}" => (&put.network_count, &put.network_fails),
        "/mmds" | "/mmds/config" => (&put.mmds_count, &put.mmds_fails),
        "/vsock" => (&put.vsock_count, &put.vsock_fails),
        "/pmem/{id}" => (&put.pmem_count, &put.pmem_fails),
        "/serial" => (&put.serial_count, &put.serial_fails),
        "/hotplug/memory" => (&put.hotplug_memory_count, &put.hotplug_memory_fails),
        _ => return None,
    })
}

fn patches<'a>(process: &'a Process, path: &str) -> Option<(&'a Counter, &'a Counter)> {
    let patch = &process.patch_api_requests;
    Some(match path {
        "/drives/{drive_id}" => (&patch.drive_count, &patch.drive_fails),
        "/network-interfaces/{iface_id}" => (&patch.network_count, &patch.network_fails),
        "/machine-config" => (&patch.machine_cfg_count, &patch.machine_cfg_fails),
        "/mmds" => (&patch.mmds_count, &patch.mmds_fails),
        "/pmem/{id}" => (&patch.pmem_count, &patch.pmem_fails),
        "/hotplug/memory" => (&patch.hotplug_memory_count, &patch.hotplug_memory_fails),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::route::ROUTES;

    #[test]
    fn every_counter_is_that_of_a_row() {
        let process = Process::default();
        let counted = ROUTES
            .iter()
            .filter(|route| of(&process, route.method, route.path).is_some())
            .count();
        // 5 GET, 13 PUT and the second path of the metadata, 6 PATCH.
        assert_eq!(counted, 5 + 14 + 6);
    }
}

//! The one table of paths.

use super::fault::Fault;
use super::http::{Method, Request};
use super::request::{Ask, Parsed};
use super::resources::{
    actions, balloon, boot_source, cpu_config, drives, entropy, instance, logger, machine_config,
    memory_hotplug, metrics, mmds, network, own, pmem, serial, snapshot, vm, vsock,
};

/// What a request is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json,
    /// JSON or nothing.
    Optional,
}

/// One row: a method, a path whose `{...}` stands for any one part, and who reads the request.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) body: Body,
    read: fn(&mut Ask<'_>) -> Result<Parsed, Fault>,
}

const fn get(path: &'static str, read: fn(&mut Ask<'_>) -> Result<Parsed, Fault>) -> Route {
    row(Method::Get, path, Body::None, read)
}

const fn put(path: &'static str, read: fn(&mut Ask<'_>) -> Result<Parsed, Fault>) -> Route {
    row(Method::Put, path, Body::Json, read)
}

const fn patch(path: &'static str, read: fn(&mut Ask<'_>) -> Result<Parsed, Fault>) -> Route {
    row(Method::Patch, path, Body::Json, read)
}

const fn delete(path: &'static str, read: fn(&mut Ask<'_>) -> Result<Parsed, Fault>) -> Route {
    row(Method::Delete, path, Body::None, read)
}

const fn row(
    method: Method,
    path: &'static str,
    body: Body,
    read: fn(&mut Ask<'_>) -> Result<Parsed, Fault>,
) -> Route {
    Route {
        method,
        path,
        body,
        read,
    }
}

/// Every path there is.
pub(crate) const ROUTES: &[Route] = &[
    get("/", instance::get),
    get("/version", instance::version),
    get("/vm/config", vm::config),
    patch("/vm", vm::patch),
    put("/actions", actions::put),
    put("/boot-source", boot_source::put),
    get("/machine-config", machine_config::get),
    put("/machine-config", machine_config::put),
    patch("/machine-config", machine_config::patch),
    put("/cpu-config", cpu_config::put),
    put("/drives/{drive_id}", drives::put),
    patch("/drives/{drive_id}", drives::patch),
    delete("/drives/{drive_id}", drives::delete),
    put("/network-interfaces/{iface_id}", network::put),
    patch("/network-interfaces/{iface_id}", network::patch),
    delete("/network-interfaces/{iface_id}", network::delete),
    put("/pmem/{id}", pmem::put),
    patch("/pmem/{id}", pmem::patch),
    delete("/pmem/{id}", pmem::delete),
    put("/vsock", vsock::put),
    get("/balloon", balloon::get),
    put("/balloon", balloon::put),
    patch("/balloon", balloon::patch),
    get("/balloon/statistics", balloon::statistics),
    patch("/balloon/statistics", balloon::patch_statistics),
    row(
        Method::Patch,
        "/balloon/hinting/start",
        Body::Optional,
        balloon::start_hinting,
    ),
    row(
        Method::Patch,
        "/balloon/hinting/stop",
        Body::Optional,
        balloon::stop_hinting,
    ),
    get("/balloon/hinting/status", balloon::hinting),
    put("/entropy", entropy::put),
    put("/serial", serial::put),
    get("/hotplug/memory", memory_hotplug::get),
    put("/hotplug/memory", memory_hotplug::put),
    patch("/hotplug/memory", memory_hotplug::patch),
    put("/logger", logger::put),
    put("/metrics", metrics::put),
    get("/mmds", mmds::get),
    put("/mmds", mmds::put),
    patch("/mmds", mmds::patch),
    put("/mmds/config", mmds::put_config),
    put("/snapshot/create", snapshot::create),
    put("/snapshot/load", snapshot::load),
    get("/ravelin/health", own::health),
    get("/ravelin/metrics", own::metrics),
    get("/ravelin/events", own::events),
    get("/ravelin/openapi.json", own::openapi),
    row(Method::Put, "/ravelin/fds/{name}", Body::None, own::put_fd),
];

/// The row of a request, if there is one.
pub(super) fn find(request: &Request) -> Option<&'static Route> {
    let mut rows = ROUTES.iter();
    rows.find(|row| row.method == request.method && matches(row.path, &request.path).is_some())
}

/// Reads a request of this row: what it comes to, or why it makes no sense.
///
/// The order of the checks is Firecracker's, so that a request with two faults is told of the same one.
pub(super) fn read(row: Option<&Route>, request: &mut Request) -> Result<Parsed, Fault> {
    let (method, has_body) = (request.method, !request.body.is_empty());
    match (method, row) {
        (Method::Get, _) if has_body => Err(Fault::GetWithBody),
        (Method::Put | Method::Patch, row)
            if !has_body && row.is_none_or(|row| row.body == Body::Json) =>
        {
            Err(Fault::Empty(method))
        }
        (_, None) => Err(Fault::NoSuchPath {
            method,
            path: parts(&request.path).next().unwrap_or_default().to_owned(),
        }),
        (_, Some(row)) => (row.read)(&mut Ask {
            id: matches(row.path, &request.path).unwrap_or_default(),
            body: &request.body,
            fds: std::mem::take(&mut request.fds),
        }),
    }
}

/// Whether `path` is one of `pattern`; then what stands in the place of `{...}`.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let mut open = "";
    let mut given = parts(path);
    for wanted in parts(pattern) {
        if wanted.starts_with('{') {
            open = given.next().unwrap_or_default();
        } else if given.next() != Some(wanted) {
            return None;
        }
    }
    given.next().is_none().then_some(open)
}

/// The parts of a path. A slash at the end adds none.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').filter(move |_| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_one_part_in_an_open_place() {
        for (pattern, path, open) in [
            ("/", "/", Some("")),
            ("/", "", Some("")),
            ("/mmds", "/mmds/", Some("")),
            ("/mmds", "/mmds/config", None),
            ("/drives/{id}", "/drives/a", Some("a")),
            ("/drives/{id}", "/drives/", Some("")),
            ("/drives/{id}", "/drives", Some("")),
            ("/drives/{id}", "/drives/a/b", None),
            ("/vm", "/", None),
        ] {
            assert_eq!(matches(pattern, path), open, "{pattern} {path}");
        }
    }

    #[test]
    fn no_two_rows_are_the_same() {
        for (index, route) in ROUTES.iter().enumerate() {
            let before = &ROUTES[..index];
            let twice = before
                .iter()
                .any(|other| other.path == route.path && other.method == route.method);
            assert!(!twice, "{}", route.path);
        }
    }
}

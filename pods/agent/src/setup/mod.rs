//! What the host knows of the guest: its name, its network, its clock.

mod network;

use std::fs;
use std::path::Path;

use protocol::api::SetupRequest;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::error::{AgentError, Doing};

/// Does what a request says.
///
/// # Errors
///
/// The first thing that cannot be done; what stands before it is done.
pub(crate) fn apply(request: &SetupRequest, files: &Path) -> Result<(), AgentError> {
    if request.time_ns != 0 {
        let time = Timespec {
            tv_sec: i64::try_from(request.time_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(request.time_ns % 1_000_000_000).unwrap_or_default(),
        };
        clock_settime(ClockId::Realtime, time).doing("set the clock")?;
    }
    if !request.hostname.is_empty() {
        rustix::system::sethostname(request.hostname.as_bytes())
            .doing(format!("be called {}", request.hostname))?;
    }
    if !request.resolv_conf.is_empty() {
        let what = "write resolv.conf";
        fs::create_dir_all(files).doing(what)?;
        fs::write(files.join("resolv.conf"), &request.resolv_conf).doing(what)?;
    }
    for (name, value) in &request.sysctls {
        let what = format!("set the sysctl {name}");
        let is_clean = name
            .split('.')
            .all(|part| !part.is_empty() && !part.contains('/') && part != "..");
        if !is_clean {
            return Err(AgentError::Asked(format!("'{name}' is no sysctl")));
        }
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(path, value).doing(what)?;
    }
    for count in [
        request.interfaces.len(),
        request.routes.len(),
        request.neighbours.len(),
    ] {
        network::few(count)?;
    }
    request.interfaces.iter().try_for_each(network::interface)?;
    request.routes.iter().try_for_each(network::route)?;
    request.neighbours.iter().try_for_each(network::neighbour)
}

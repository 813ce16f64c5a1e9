//! The rows about what devices need of the host.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::read;
use super::report::{Finding, Row, Section};
use super::syscalls;

pub(super) fn rows() -> Vec<Row> {
    let tun = Path::new("/dev/net/tun");
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open(tun)
        .map(drop);
    let rights = read::text("/proc/self/status")
        .ok()
        .and_then(|status| may_administer_network(&status));
    let sysctl = read::text("/proc/sys/kernel/io_uring_disabled").ok();
    let row = |id, title, finding| Row::new(Section::Devices, id, title, finding);
    vec![
        row("tap", "tap", tap(&opened, rights)),
        row(
            "io-uring",
            "io_uring",
            io_uring(&syscalls::io_uring_allowed(), sysctl.as_deref()),
        ),
    ]
}

/// Whether the effective capabilities in the text of `/proc/self/status` hold `CAP_NET_ADMIN`
/// (capabilities(7)).
fn may_administer_network(status: &str) -> Option<bool> {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask & CAP_NET_ADMIN != 0)
}

fn tap(opened: &io::Result<()>, rights: Option<bool>) -> Finding {
    if let Err(error) = opened {
        let advice = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "for networks load the driver (sudo modprobe tun), or pass /dev/net/tun to this container"
            }
            Some(libc::EACCES) => "for networks let this user in: sudo chmod 0666 /dev/net/tun",
            _ => "for networks let the device cgroup or the container pass /dev/net/tun",
        };
        return Finding::warning(format!("opening /dev/net/tun: {error}"), advice);
    }
    match rights {
        Some(true) => Finding::ok("/dev/net/tun opens, and CAP_NET_ADMIN makes taps"),
        Some(false) => Finding::warning(
            "/dev/net/tun opens; without CAP_NET_ADMIN only a tap of this user's can be used",
            "make one as root (ip tuntap add dev tap0 mode tap user \"$USER\"), or give ravelin CAP_NET_ADMIN",
        ),
        None => Finding::unknown(
            "/dev/net/tun opens; /proc/self/status does not tell the capabilities",
            "mount /proc",
        ),
    }
}

/// `sysctl` is the value of `kernel.io_uring_disabled` (since Linux 6.6): 0 nobody, 1 all but a group, 2 all.
fn io_uring(allowed: &io::Result<()>, sysctl: Option<&str>) -> Finding {
    let Err(error) = allowed else {
        return Finding::ok("rings can be made");
    };
    let refused_by_sysctl = sysctl.is_some_and(|value| value != "0");
    let advice = match error.raw_os_error() {
        Some(libc::ENOSYS) => "use engine=sync for disks, or a kernel with CONFIG_IO_URING",
        _ if refused_by_sysctl => {
            "use engine=sync for disks, or allow rings: sudo sysctl kernel.io_uring_disabled=0"
        }
        _ => {
            "use engine=sync for disks, or leave the container or seccomp filter that forbids rings"
        }
    };
    let sysctl = sysctl.map_or_else(String::new, |value| {
        format!(" (io_uring_disabled = {value})")
    });
    Finding::warning(format!("io_uring_setup: {error}{sysctl}"), advice)
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn error<T>(errno: i32) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn the_network_capability_is_bit_12_of_the_effective_set() {
        let status = |mask| format!("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t{mask}\n");
        let bit = may_administer_network(&status("0000000000001000"));
        assert_eq!(bit, Some(true));
        let others = may_administer_network(&status("000001ffffffefff"));
        assert_eq!(others, Some(false));
        assert_eq!(may_administer_network("Name:\tx\n"), None);
    }

    #[test]
    fn a_tap_needs_the_device_and_the_capability_to_be_green() {
        assert_eq!(tap(&Ok(()), Some(true)).level, Level::Ok);
        assert_eq!(tap(&Ok(()), Some(false)).level, Level::Warning);
        assert_eq!(tap(&Ok(()), None).level, Level::Unknown);
        let missing = tap(&error(libc::ENOENT), Some(true));
        assert_eq!(missing.level, Level::Warning);
        assert!(missing.advice.unwrap().contains("modprobe tun"));
    }

    #[test]
    fn a_refused_ring_leads_to_the_other_engine() {
        let advice = |errno, sysctl| {
            let found = io_uring(&error(errno), sysctl);
            assert_eq!(found.level, Level::Warning);
            found.advice.unwrap()
        };
        assert!(advice(libc::EPERM, Some("2")).contains("sysctl"));
        assert!(advice(libc::EPERM, Some("0")).contains("seccomp"));
        assert!(advice(libc::EPERM, None).contains("seccomp"));
        assert!(advice(libc::ENOSYS, None).contains("CONFIG_IO_URING"));
        assert_eq!(io_uring(&Ok(()), Some("0")).level, Level::Ok);
    }
}

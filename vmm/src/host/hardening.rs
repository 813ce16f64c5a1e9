//! What a host's owner can do so that a guest which broke out of everything gains less: the rows of the host
//! in `ravelin audit`. Those that `ravelin doctor` has too are the same checks.

use std::io;
use std::path::{Path, PathBuf};

use super::report::{Finding, Row, Section};
use super::{isolation, machine, read, storage, syscalls};

/// Looks at the host. `files` are paths of what a VM has its disks in, for whether they are encrypted.
pub fn harden(files: &[PathBuf]) -> Vec<Row> {
    let row = |id, title, finding| Row::new(Section::Host, id, title, finding);
    vec![
        row("lsm", "security module", isolation::look_at_modules()),
        row(
            "cpu-vulnerabilities",
            "CPU vulnerabilities",
            machine::look_at_vulnerabilities(),
        ),
        row("smt", "SMT", machine::look_at_smt()),
        row("ksm", "KSM", machine::look_at_ksm()),
        row("swap", "swap", machine::look_at_swap()),
        row(
            "disk-encryption",
            "disk encryption",
            storage::look(Path::new("/sys/dev/block"), files),
        ),
        row("clock", "clock", clock(syscalls::clock_status())),
        row(
            "fips",
            "FIPS mode",
            fips(&read::text("/proc/sys/crypto/fips_enabled")),
        ),
        row(
            "read-only-root",
            "read-only root",
            root(&read::text("/proc/self/mountinfo")),
        ),
        row("lockdown", "kernel lockdown", look_at_lockdown()),
        row(
            "unprivileged-bpf",
            "BPF for everybody",
            bpf(&read::text("/proc/sys/kernel/unprivileged_bpf_disabled")),
        ),
        row(
            "unprivileged-userns",
            "user namespaces for everybody",
            look_at_namespaces(),
        ),
    ]
}

/// `STA_UNSYNC` of adjtimex(2).
fn clock(status: io::Result<i32>) -> Finding {
    let advice = "run chronyd or systemd-timesyncd: certificates, tokens and logs rest on the time";
    match status {
        Ok(status) if status & libc::STA_UNSYNC == 0 => {
            Finding::ok("the kernel's clock is kept in step by a time service")
        }
        Ok(_) => Finding::warning("no time service keeps the kernel's clock in step", advice),
        Err(error) => Finding::unknown(format!("adjtimex: {error}"), advice),
    }
}

fn fips(enabled: &io::Result<String>) -> Finding {
    let advice = "where rules demand it, boot with fips=1 (fips-mode-setup --enable)";
    match enabled.as_deref() {
        Ok("1") => Finding::ok("the kernel uses approved cryptography only"),
        Ok(_) => Finding::warning("switched off", advice),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && Path::new("/proc/sys/kernel").exists() =>
        {
            Finding::warning("this kernel is built without it", advice)
        }
        Err(error) => machine::unreadable("/proc/sys/crypto/fips_enabled", error),
    }
}

/// The mount at `/` in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)): the last one lies on top.
fn root(mountinfo: &io::Result<String>) -> Finding {
    let text = match mountinfo {
        Ok(text) => text,
        Err(error) => return machine::unreadable("/proc/self/mountinfo", error),
    };
    let top = text.lines().rev().find_map(|line| {
        let (place, file_system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(4);
        (place.next()? == "/").then_some(())?;
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?;
        let read_only = |options: &str| options.split(',').any(|option| option == "ro");
        Some((
            kind,
            read_only(place.next()?) || file_system.nth(1).is_some_and(read_only),
        ))
    });
    match top {
        Some((kind, true)) => Finding::ok(format!("{kind}, mounted read-only")),
        Some((kind, false)) => Finding::warning(
            format!("{kind}, mounted for writing"),
            "on hosts for VMs only use an image-based system (Fedora CoreOS, bootc), or mount / read-only",
        ),
        None => Finding::unknown(
            "/proc/self/mountinfo has no mount at /",
            "look from outside the chroot",
        ),
    }
}

fn look_at_lockdown() -> Finding {
    let security = Path::new("/sys/kernel/security");
    let is_mounted = security.join("lsm").exists();
    lockdown(&read::text(security.join("lockdown")), is_mounted)
}

fn lockdown(text: &io::Result<String>, securityfs: bool) -> Finding {
    let advice = "boot with lockdown=confidentiality (or integrity), so that root cannot change or read the kernel";
    match text.as_deref().map(read::chosen) {
        Ok(Some("none")) => Finding::warning("switched off", advice),
        Ok(Some(level)) => Finding::ok(level),
        Err(error) if error.kind() == io::ErrorKind::NotFound && securityfs => {
            Finding::warning("this kernel is built without it", advice)
        }
        Ok(None) | Err(_) => Finding::unknown(
            "/sys/kernel/security/lockdown does not say",
            "mount securityfs: sudo mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

/// Linux `Documentation/admin-guide/sysctl/kernel.rst`, `unprivileged_bpf_disabled`.
fn bpf(disabled: &io::Result<String>) -> Finding {
    match disabled.as_deref() {
        Ok("1" | "2") => Finding::ok("only for privileged processes"),
        Ok(_) => Finding::warning(
            "every process may load BPF programs into the kernel",
            "sudo sysctl kernel.unprivileged_bpf_disabled=1",
        ),
        Err(error) => machine::unreadable("/proc/sys/kernel/unprivileged_bpf_disabled", error),
    }
}

fn look_at_namespaces() -> Finding {
    let sysctl = |name: &str| read::text(Path::new("/proc/sys").join(name));
    namespaces(
        &sysctl("user/max_user_namespaces"),
        sysctl("kernel/unprivileged_userns_clone").ok().as_deref(),
        sysctl("kernel/apparmor_restrict_unprivileged_userns")
            .ok()
            .as_deref(),
    )
}

fn namespaces(most: &io::Result<String>, clone: Option<&str>, apparmor: Option<&str>) -> Finding {
    if clone == Some("0") {
        return Finding::ok("only for privileged processes (kernel.unprivileged_userns_clone)");
    }
    if apparmor == Some("1") {
        return Finding::ok("only for programs whose AppArmor profile allows them");
    }
    match most.as_deref() {
        Ok("0") => Finding::ok("for nobody (user.max_user_namespaces)"),
        Ok(most) => Finding::warning(
            format!("every user may make up to {most}, and reach much of the kernel in them"),
            "where only root starts VMs: sudo sysctl user.max_user_namespaces=0, or kernel.unprivileged_userns_clone=0 \
             where the kernel has it; VMs of ordinary users need them",
        ),
        Err(error) => machine::unreadable("/proc/sys/user/max_user_namespaces", error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn text(text: &str) -> io::Result<String> {
        Ok(text.to_owned())
    }

    fn nothing<T>() -> io::Result<T> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn a_clock_is_in_step_unless_it_says_otherwise() {
        assert_eq!(clock(Ok(libc::STA_NANO)).level, Level::Ok);
        assert_eq!(clock(Ok(libc::STA_UNSYNC)).level, Level::Warning);
        assert_eq!(clock(nothing()).level, Level::Unknown);
    }

    #[test]
    fn switches_are_read_and_silence_is_unknown() {
        assert_eq!(fips(&text("1")).level, Level::Ok);
        assert_eq!(fips(&text("0")).level, Level::Warning);
        assert_eq!(fips(&nothing()).level, Level::Unknown);
        assert_eq!(bpf(&text("2")).level, Level::Ok);
        assert_eq!(bpf(&text("0")).level, Level::Warning);
        assert_eq!(bpf(&nothing()).level, Level::Unknown);
    }

    #[test]
    fn the_mount_on_top_decides_whether_the_root_is_read_only() {
        const LOWER: &str = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
        assert_eq!(root(&text(LOWER)).level, Level::Warning);
        let covered = format!("{LOWER}2 1 0:9 / / ro,relatime - overlay composefs rw\n");
        assert_eq!(root(&text(&covered)).level, Level::Ok);
        let super_block = "1 0 8:1 / / rw,relatime - erofs /dev/sda1 ro,x\n";
        assert_eq!(root(&text(super_block)).level, Level::Ok);
        let elsewhere = "1 0 8:1 / /data ro - ext4 /dev/sda1 rw\n";
        assert_eq!(root(&text(elsewhere)).level, Level::Unknown);
        assert_eq!(root(&nothing()).level, Level::Unknown);
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        let level = |words: &str| lockdown(&text(words), true).level;
        assert_eq!(level("none [integrity] confidentiality"), Level::Ok);
        assert_eq!(level("[none] integrity confidentiality"), Level::Warning);
        assert_eq!(level("none integrity"), Level::Unknown);
        let missing = || Err(io::ErrorKind::NotFound.into());
        assert_eq!(lockdown(&missing(), true).level, Level::Warning);
        assert_eq!(lockdown(&missing(), false).level, Level::Unknown);
    }

    #[test]
    fn one_switch_is_enough_to_keep_user_namespaces_from_everybody() {
        let many = || text("10000");
        assert_eq!(namespaces(&many(), None, None).level, Level::Warning);
        assert_eq!(namespaces(&many(), Some("0"), None).level, Level::Ok);
        assert_eq!(namespaces(&many(), Some("1"), Some("1")).level, Level::Ok);
        assert_eq!(namespaces(&text("0"), None, None).level, Level::Ok);
        assert_eq!(namespaces(&nothing(), None, None).level, Level::Unknown);
    }
}

//! The rows about processor, memory and kernel.

use std::io;
use std::path::Path;

use super::read;
use super::report::{Finding, Row, Section};

pub(super) fn rows() -> Vec<Row> {
    let row = |id, title, finding| Row::new(Section::Host, id, title, finding);
    let meminfo = read::text("/proc/meminfo");
    let transparent = read::text("/sys/kernel/mm/transparent_hugepage/enabled");
    let release = rustix::system::uname();
    vec![
        row(
            "kernel",
            "kernel",
            kernel(&release.release().to_string_lossy()),
        ),
        row(
            "cpu-vulnerabilities",
            "CPU vulnerabilities",
            look_at_vulnerabilities(),
        ),
        row("smt", "SMT", look_at_smt()),
        row(
            "memory",
            "memory",
            with_text(&meminfo, "/proc/meminfo", memory),
        ),
        row(
            "huge-pages",
            "huge pages",
            with_text(&meminfo, "/proc/meminfo", |text| {
                huge_pages(text, transparent.as_deref().ok())
            }),
        ),
        row("ksm", "KSM", look_at_ksm()),
        row("swap", "swap", look_at_swap()),
    ]
}

pub(super) fn look_at_vulnerabilities() -> Finding {
    let directory = Path::new("/sys/devices/system/cpu/vulnerabilities");
    vulnerabilities(&weaknesses(directory))
}

pub(super) fn look_at_smt() -> Finding {
    smt(&read::text("/sys/devices/system/cpu/smt/active"))
}

pub(super) fn look_at_ksm() -> Finding {
    ksm(&read::text("/sys/kernel/mm/ksm/run"))
}

pub(super) fn look_at_swap() -> Finding {
    swap(read::text("/proc/swaps"))
}

pub(super) fn unreadable(path: &str, error: &io::Error) -> Finding {
    Finding::unknown(format!("{path}: {error}"), "mount /proc and /sys")
}

fn with_text(
    text: &io::Result<String>,
    path: &str,
    judge: impl FnOnce(&str) -> Option<Finding>,
) -> Finding {
    match text {
        Ok(text) => judge(text).unwrap_or_else(|| {
            Finding::unknown(format!("{path} does not say"), "use a newer kernel")
        }),
        Err(error) => unreadable(path, error),
    }
}

/// The oldest kernel that the tests run on: Debian 12's.
const TESTED: (u32, u32) = (6, 1);

fn kernel(release: &str) -> Finding {
    let (major, minor) = TESTED;
    match version(release) {
        Some(version) if version >= TESTED => Finding::ok(format!("Linux {release}")),
        Some(_) => Finding::warning(
            format!("Linux {release} is older than the tests' oldest, {major}.{minor}"),
            format!("use Linux {major}.{minor} or newer"),
        ),
        None => Finding::unknown(
            format!("the kernel calls itself `{release}`"),
            format!("use Linux {major}.{minor} or newer"),
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Each weakness that the kernel knows, and what it says of it.
fn weaknesses(directory: &Path) -> io::Result<Vec<(String, String)>> {
    read::names(directory)?
        .into_iter()
        .map(|name| {
            let state = read::text(directory.join(&name))?;
            Ok((name, state))
        })
        .collect()
}

fn vulnerabilities(weaknesses: &io::Result<Vec<(String, String)>>) -> Finding {
    let weaknesses = match weaknesses {
        Ok(list) if !list.is_empty() => list,
        Ok(_) => return unreadable("the kernel's list", &io::ErrorKind::NotFound.into()),
        Err(error) => return unreadable("the kernel's list", error),
    };
    let open: Vec<_> = weaknesses
        .iter()
        .filter(|(_, state)| state.to_ascii_lowercase().contains("vulnerable"))
        .map(|(name, _)| name.as_str())
        .collect();
    if open.is_empty() {
        Finding::ok(format!("none of {} is open", weaknesses.len()))
    } else {
        Finding::warning(
            format!(
                "{} of {} are open: {}",
                open.len(),
                weaknesses.len(),
                open.join(", ")
            ),
            "before running guests that distrust each other, update microcode and kernel and leave \
             mitigations on",
        )
    }
}

fn smt(active: &io::Result<String>) -> Finding {
    match active.as_deref() {
        Ok("0") => Finding::ok("no two processors share a core"),
        Ok("1") => Finding::warning(
            "processors share cores, so one guest can learn from another's timing",
            "for guests that distrust each other switch it off: echo off | sudo tee \
             /sys/devices/system/cpu/smt/control",
        ),
        Ok(other) => Finding::unknown(
            format!("smt/active says `{other}`"),
            "look at lscpu's threads per core",
        ),
        Err(error) => unreadable("/sys/devices/system/cpu/smt/active", error),
    }
}

/// The value of `name` in the text of `/proc/meminfo`: KiB, or a number of pages.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.split_whitespace().next()?.parse().ok()
    })
}

/// Less is too little for one guest of the default size.
const LEAST_AVAILABLE_MIB: u64 = 768;

fn memory(text: &str) -> Option<Finding> {
    let total_mib = meminfo(text, "MemTotal")? / 1024;
    let available_mib = meminfo(text, "MemAvailable")? / 1024;
    let evidence = format!("{available_mib} of {total_mib} MiB are available");
    Some(if available_mib >= LEAST_AVAILABLE_MIB {
        Finding::ok(evidence)
    } else {
        Finding::warning(evidence, "free memory, or give guests little (--mem 128M)")
    })
}

fn huge_pages(text: &str, transparent: Option<&str>) -> Option<Finding> {
    let size_kib = meminfo(text, "Hugepagesize")?;
    let total = meminfo(text, "HugePages_Total")?;
    let free = meminfo(text, "HugePages_Free")?;
    let transparent = transparent.and_then(read::chosen).unwrap_or("not told");
    Some(Finding::ok(format!(
        "{free} of {total} reserved ones of {size_kib} KiB are free; transparent ones: {transparent}"
    )))
}

fn ksm(run: &io::Result<String>) -> Finding {
    match run.as_deref() {
        Ok("1") => Finding::warning(
            "the kernel merges equal pages, so one guest can guess another's memory",
            "for guests that distrust each other switch it off: echo 2 | sudo tee /sys/kernel/mm/ksm/run",
        ),
        Ok(_) => Finding::ok("the kernel does not merge equal pages"),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && Path::new("/sys/kernel/mm").exists() =>
        {
            Finding::ok("this kernel cannot merge equal pages")
        }
        Err(error) => unreadable("/sys/kernel/mm/ksm/run", error),
    }
}

fn swap(swaps: io::Result<String>) -> Finding {
    match swaps {
        Ok(text) => match text.lines().skip(1).count() {
            0 => Finding::ok("none, so guest memory stays off disks"),
            count => Finding::warning(
                format!("{count} in use: guest memory may be written to disk"),
                "encrypt it, or switch it off: sudo swapoff -a",
            ),
        },
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self").exists() =>
        {
            Finding::ok("this kernel cannot swap")
        }
        Err(error) => unreadable("/proc/swaps", &error),
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
    fn kernels_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(kernel("6.1.0-21-cloud-amd64").level, Level::Ok);
        assert_eq!(kernel("5.15.0").level, Level::Warning);
        assert_eq!(kernel("plan9").level, Level::Unknown);
    }

    #[test]
    fn an_open_weakness_is_named_wherever_the_word_stands() {
        let list = |state: &str| {
            Ok(vec![
                ("l1tf".to_owned(), "Not affected".to_owned()),
                ("mds".to_owned(), state.to_owned()),
            ])
        };
        let half = vulnerabilities(&list("Mitigation: Clear CPU buffers; SMT vulnerable"));
        assert_eq!(half.level, Level::Warning);
        assert_eq!(half.evidence, "1 of 2 are open: mds");
        let closed = vulnerabilities(&list("Mitigation: Clear CPU buffers"));
        assert_eq!(closed.level, Level::Ok);
        assert_eq!(vulnerabilities(&Ok(Vec::new())).level, Level::Unknown);
        assert_eq!(vulnerabilities(&nothing()).level, Level::Unknown);
    }

    #[test]
    fn sharing_between_guests_is_a_warning_and_silence_is_unknown() {
        assert_eq!(smt(&text("1")).level, Level::Warning);
        assert_eq!(smt(&text("0")).level, Level::Ok);
        assert_eq!(smt(&nothing()).level, Level::Unknown);
        assert_eq!(ksm(&text("1")).level, Level::Warning);
        assert_eq!(ksm(&text("0")).level, Level::Ok);
        assert_eq!(ksm(&nothing()).level, Level::Unknown);
    }

    #[test]
    fn swap_counts_lines_after_the_head() {
        const HEAD: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority";
        assert_eq!(swap(text(HEAD)).level, Level::Ok);
        let one = format!("{HEAD}\n/dev/sda2 partition 1 0 -2");
        assert_eq!(swap(text(&one)).level, Level::Warning);
        assert_eq!(swap(nothing()).level, Level::Unknown);
    }

    #[test]
    fn memory_and_huge_pages_come_from_meminfo() {
        let info = "MemTotal:       24576000 kB\nMemAvailable:   20480000 kB\nHugePages_Total:       4\n\
                    HugePages_Free:        3\nHugepagesize:       2048 kB\n";
        let found = memory(info).unwrap();
        assert_eq!(found.evidence, "20000 of 24000 MiB are available");
        assert_eq!(
            huge_pages(info, Some("always [madvise] never"))
                .unwrap()
                .evidence,
            "3 of 4 reserved ones of 2048 KiB are free; transparent ones: madvise"
        );
        let little = memory("MemTotal: 1024000 kB\nMemAvailable: 102400 kB\n").unwrap();
        assert_eq!(little.level, Level::Warning);
        assert!(memory("").is_none());
        assert_eq!(
            with_text(&nothing(), "/proc/meminfo", memory).level,
            Level::Unknown
        );
    }
}

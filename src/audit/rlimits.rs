//! How much the process may use by its resource limits (getrlimit(2)).

use std::io;

use super::proc::Process;
use super::report::Finding;

/// A limit: its wall, the name in the file, its unit there, and the highest value that is a wall.
struct Limit {
    id: &'static str,
    name: &'static str,
    most: u64,
}

/// `u64::MAX` as the most: any number, so long as there is one.
const LIMITS: [Limit; 6] = [
    Limit {
        id: "rlimit-core",
        name: "Max core file size",
        most: 0,
    },
    Limit {
        id: "rlimit-nofile",
        name: "Max open files",
        // 32 vCPUs, two dozen devices with their events and a few clients need less than half of it.
        most: 2048,
    },
    Limit {
        id: "rlimit-nproc",
        name: "Max processes",
        most: 512,
    },
    Limit {
        id: "rlimit-memlock",
        name: "Max locked memory",
        most: u64::MAX,
    },
    Limit {
        id: "rlimit-as",
        name: "Max address space",
        most: u64::MAX,
    },
    Limit {
        id: "rlimit-fsize",
        name: "Max file size",
        most: u64::MAX,
    },
];

/// Each of the limits, looked at.
pub(super) fn look(process: &Process) -> Vec<(&'static str, Finding)> {
    let text = process.text("limits");
    LIMITS
        .iter()
        .map(|limit| (limit.id, judge(&text, limit)))
        .collect()
}

/// The hard limit in the text of `/proc/PID/limits`: the process may raise the other one itself.
fn judge(text: &io::Result<String>, limit: &Limit) -> Finding {
    let text = match text {
        Ok(text) => text,
        Err(error) => return Finding::unreadable("/proc/PID/limits", error),
    };
    let values = text.lines().find_map(|line| line.strip_prefix(limit.name));
    let Some(hard) = values.and_then(|values| values.split_whitespace().nth(1)) else {
        return Finding::silent(limit.name);
    };
    match hard.parse::<u64>() {
        Ok(value) if value <= limit.most => Finding::in_force(format!("at most {value}")),
        Ok(value) => Finding::absent(format!(
            "at most {value}, and {} would be enough",
            limit.most
        )),
        Err(_) if hard == "unlimited" => Finding::absent("unlimited"),
        Err(_) => Finding::silent(limit.name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    const TEXT: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max core file size        0                    unlimited            bytes
Max open files            1024                 2048                 files
Max processes             100                  4096                 processes
Max file size             1048576              1048576              bytes
Max locked memory         what                 what                 bytes
";

    fn found(id: &str, text: &io::Result<String>) -> Finding {
        let limit = LIMITS.iter().find(|limit| limit.id == id).unwrap();
        judge(text, limit)
    }

    #[test]
    fn the_hard_limit_counts() {
        let found = |id| found(id, &Ok(TEXT.to_owned()));
        assert_eq!(found("rlimit-core"), Finding::absent("unlimited"));
        assert_eq!(found("rlimit-nofile"), Finding::in_force("at most 2048"));
        assert_eq!(found("rlimit-nproc").state, State::Absent);
        assert_eq!(found("rlimit-fsize").state, State::InForce);
        assert_eq!(found("rlimit-memlock").state, State::NotTestable);
    }

    #[test]
    fn silence_is_not_green() {
        let refused = Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(found("rlimit-core", &refused).state, State::NotTestable);
        let empty = found("rlimit-core", &Ok(String::new()));
        assert_eq!(empty.state, State::NotTestable);
    }
}

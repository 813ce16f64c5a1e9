//! The process's memory: nothing to write that runs, nothing merged with others'.

use std::io;

use super::proc::Process;
use super::report::Finding;

/// Each wall about memory, looked at.
pub(super) fn look(process: &Process) -> Vec<(&'static str, Finding)> {
    vec![
        ("memory", maps(&process.text("maps"))),
        ("merging", merging(&process.text("ksm_stat"))),
    ]
}

/// The text of `/proc/PID/maps` (proc_pid_maps(5)).
fn maps(text: &io::Result<String>) -> Finding {
    let text = match text {
        Ok(text) => text,
        Err(error) => return Finding::unreadable("/proc/PID/maps", error),
    };
    let mut both = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            return Finding::silent("its mappings in a known form");
        };
        count += 1;
        if rights.contains('w') && rights.contains('x') {
            let name = words.nth(3).unwrap_or("no file");
            both.push(format!("{range} ({rights}, {name})"));
        }
    }
    match both.as_slice() {
        _ if count == 0 => Finding::silent("its mappings"),
        [] => Finding::in_force(format!(
            "none of {count} mappings is both writable and executable"
        )),
        both => Finding::absent(format!(
            "{} of {count} mappings: {}",
            both.len(),
            both.join(", ")
        )),
    }
}

/// The text of `/proc/PID/ksm_stat` (Linux `Documentation/filesystems/proc.rst`).
fn merging(text: &io::Result<String>) -> Finding {
    let text = match text {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::silent("whether its memory may be merged");
        }
        Err(error) => return Finding::unreadable("/proc/PID/ksm_stat", error),
    };
    let field = |name| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| (key == name).then(|| value.trim() == "no"))
    };
    match (field("ksm_merge_any"), field("ksm_mergeable")) {
        (Some(false), _) | (_, Some(false)) => {
            Finding::absent("the kernel may merge its pages with others'")
        }
        (Some(true), Some(true)) => Finding::in_force("no page of it may be merged with others'"),
        _ => Finding::silent("whether its memory may be merged"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    fn text(text: &str) -> io::Result<String> {
        Ok(text.to_owned())
    }

    fn refused() -> io::Result<String> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn a_mapping_to_write_and_run_is_named() {
        const GOOD: &str = "\
55e0-55e1 r-xp 00000000 08:01 1 /usr/bin/ravelin
7f00-7f01 rw-p 00000000 00:00 0
7f02-7f03 rw-s 00000000 00:01 9 /memfd:guest (deleted)
";
        let good = maps(&text(GOOD));
        assert_eq!(
            good.evidence,
            "none of 3 mappings is both writable and executable"
        );
        assert_eq!(good.state, State::InForce);
        let bad = maps(&text(&format!(
            "{GOOD}8000-8001 rwxp 00000000 00:00 0 [heap]\n"
        )));
        assert_eq!(bad.evidence, "1 of 4 mappings: 8000-8001 (rwxp, [heap])");
        assert_eq!(bad.state, State::Absent);
    }

    #[test]
    fn no_mappings_are_not_green() {
        assert_eq!(maps(&text("")).state, State::NotTestable);
        assert_eq!(maps(&text("garbage\n")).state, State::NotTestable);
        assert_eq!(maps(&refused()).state, State::NotTestable);
    }

    #[test]
    fn merging_is_off_when_both_lines_say_so() {
        let found = |lines: &str| merging(&text(lines)).state;
        assert_eq!(
            found("ksm_merging_pages 0\nksm_merge_any: no\nksm_mergeable: no\n"),
            State::InForce
        );
        assert_eq!(
            found("ksm_merge_any: yes\nksm_mergeable: yes\n"),
            State::Absent
        );
        assert_eq!(
            found("ksm_merge_any: no\nksm_mergeable: yes\n"),
            State::Absent
        );
        assert_eq!(found("ksm_merge_any: no\n"), State::NotTestable);
        assert_eq!(merging(&refused()).state, State::NotTestable);
    }
}

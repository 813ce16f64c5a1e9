//! What a container has used, from the files of its cgroup.

use std::fs;

use protocol::api::StatsReply;

use super::{Cgroup, guard};

impl Cgroup {
    /// All figures; what the guest's kernel does not count is 0.
    pub(crate) fn stats(&self) -> StatsReply {
        let mut reply = StatsReply::new();
        let cpu = self.read("cpu.stat");
        reply.cpu_usage_us = figure(&cpu, "usage_usec");
        reply.cpu_user_us = figure(&cpu, "user_usec");
        reply.cpu_system_us = figure(&cpu, "system_usec");
        reply.cpu_periods = figure(&cpu, "nr_periods");
        reply.cpu_throttled = figure(&cpu, "nr_throttled");
        reply.cpu_throttled_us = figure(&cpu, "throttled_usec");
        reply.memory_bytes = number(&self.read("memory.current"));
        reply.memory_peak_bytes = number(&self.read("memory.peak"));
        reply.memory_limit_bytes = number(&self.read("memory.max"));
        let memory = self.read("memory.stat");
        reply.memory_anon_bytes = figure(&memory, "anon");
        reply.memory_file_bytes = figure(&memory, "file");
        reply.memory_inactive_file_bytes = figure(&memory, "inactive_file");
        reply.memory_active_file_bytes = figure(&memory, "active_file");
        reply.memory_faults = figure(&memory, "pgfault");
        reply.memory_major_faults = figure(&memory, "pgmajfault");
        reply.memory_failures = figure(&self.read("memory.events"), "max");
        reply.oom_kills = self.oom_kills();
        reply.pids = number(&self.read("pids.current"));
        reply.pids_limit = number(&self.read("pids.max"));
        let io = self.read("io.stat");
        reply.io_read_bytes = sum(&io, "rbytes");
        reply.io_write_bytes = sum(&io, "wbytes");
        reply.io_reads = sum(&io, "rios");
        reply.io_writes = sum(&io, "wios");
        let guest = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let of = |name| guard::field(&guest, name).unwrap_or_default();
        reply.guest_memory_bytes = of("MemTotal").saturating_sub(of("MemAvailable"));
        reply
    }

    /// How many of its processes were ended for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        figure(&self.read("memory.events"), "oom_kill")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap_or_default()
    }
}

/// A file that is one number; `max` is none.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// A line `NAME NUMBER`.
fn figure(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.split_once(' ').filter(|(found, _)| *found == name))
        .map_or(0, |(_, value)| number(value))
}

/// `NAME=NUMBER` of every line.
fn sum(text: &str, name: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .filter(|(found, _)| *found == name)
        .fold(0, |sum, (_, value)| sum.saturating_add(number(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_by_its_whole_name() {
        let text = "usage_usec 12\nuser_usec 7\n";
        assert_eq!(figure(text, "user_usec"), 7);
        assert_eq!(figure(text, "usec"), 0);
        assert_eq!(number("max\n"), 0);
    }

    #[test]
    fn disks_are_added_up() {
        let text = "254:0 rbytes=10 wbytes=1 rios=2\n254:16 rbytes=5 wbytes=0 rios=1\n";
        assert_eq!(sum(text, "rbytes"), 15);
        assert_eq!(sum(text, "rios"), 3);
    }
}

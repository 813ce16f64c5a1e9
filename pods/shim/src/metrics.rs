//! What a container uses, in the shape that containerd asks for: that of the host's version of cgroups, although the
//! figures are the guest's.

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use protobuf::{MessageField, MessageFull};
use protocol::api::StatsReply;

/// Figures as containerd takes them on this host.
pub(crate) fn any(stats: &StatsReply, is_unified: bool) -> Any {
    match is_unified {
        true => pack(&of_v2(stats)),
        false => pack(&of_v1(stats)),
    }
}

fn pack<M: MessageFull>(message: &M) -> Any {
    let mut any = Any::new();
    any.type_url = M::descriptor().full_name().to_owned();
    // A message of numbers can always be written.
    any.value = message.write_to_bytes().unwrap_or_default();
    any
}

fn of_v2(stats: &StatsReply) -> v2::Metrics {
    let cpu = v2::CPUStat {
        usage_usec: stats.cpu_usage_us,
        user_usec: stats.cpu_user_us,
        system_usec: stats.cpu_system_us,
        nr_periods: stats.cpu_periods,
        nr_throttled: stats.cpu_throttled,
        throttled_usec: stats.cpu_throttled_us,
        ..Default::default()
    };
    let memory = v2::MemoryStat {
        usage: stats.memory_bytes,
        usage_limit: stats.memory_limit_bytes,
        anon: stats.memory_anon_bytes,
        file: stats.memory_file_bytes,
        inactive_file: stats.memory_inactive_file_bytes,
        active_file: stats.memory_active_file_bytes,
        pgfault: stats.memory_faults,
        pgmajfault: stats.memory_major_faults,
        ..Default::default()
    };
    let events = v2::MemoryEvents {
        max: stats.memory_failures,
        oom_kill: stats.oom_kills,
        ..Default::default()
    };
    let pids = v2::PidsStat {
        current: stats.pids,
        limit: stats.pids_limit,
        ..Default::default()
    };
    let entry = v2::IOEntry {
        rbytes: stats.io_read_bytes,
        wbytes: stats.io_write_bytes,
        rios: stats.io_reads,
        wios: stats.io_writes,
        ..Default::default()
    };
    v2::Metrics {
        pids: MessageField::some(pids),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory),
        memory_events: MessageField::some(events),
        io: MessageField::some(v2::IOStat {
            usage: vec![entry],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn of_v1(stats: &StatsReply) -> v1::Metrics {
    let nanoseconds = |us: u64| us.saturating_mul(1000);
    let usage = v1::CPUUsage {
        total: nanoseconds(stats.cpu_usage_us),
        user: nanoseconds(stats.cpu_user_us),
        kernel: nanoseconds(stats.cpu_system_us),
        ..Default::default()
    };
    let throttling = v1::Throttle {
        periods: stats.cpu_periods,
        throttled_periods: stats.cpu_throttled,
        throttled_time: nanoseconds(stats.cpu_throttled_us),
        ..Default::default()
    };
    let cpu = v1::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..Default::default()
    };
    let entry = v1::MemoryEntry {
        usage: stats.memory_bytes,
        max: stats.memory_peak_bytes,
        limit: stats.memory_limit_bytes,
        failcnt: stats.memory_failures,
        ..Default::default()
    };
    let memory = v1::MemoryStat {
        usage: MessageField::some(entry),
        cache: stats.memory_file_bytes,
        rss: stats.memory_anon_bytes,
        total_cache: stats.memory_file_bytes,
        total_rss: stats.memory_anon_bytes,
        total_inactive_file: stats.memory_inactive_file_bytes,
        total_active_file: stats.memory_active_file_bytes,
        pg_fault: stats.memory_faults,
        pg_maj_fault: stats.memory_major_faults,
        ..Default::default()
    };
    let pids = v1::PidsStat {
        current: stats.pids,
        limit: stats.pids_limit,
        ..Default::default()
    };
    v1::Metrics {
        pids: MessageField::some(pids),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use protobuf::Message;

    use super::*;

    #[test]
    fn both_shapes_say_the_same() {
        let stats = StatsReply {
            cpu_usage_us: 7,
            memory_bytes: 4096,
            pids: 2,
            ..Default::default()
        };
        let unified = any(&stats, true);
        assert_eq!(unified.type_url, "io.containerd.cgroups.v2.Metrics");
        let unified = v2::Metrics::parse_from_bytes(&unified.value).unwrap();
        assert_eq!(
            (
                unified.cpu.usage_usec,
                unified.memory.usage,
                unified.pids.current
            ),
            (7, 4096, 2)
        );
        let split = any(&stats, false);
        assert_eq!(split.type_url, "io.containerd.cgroups.v1.Metrics");
        let split = v1::Metrics::parse_from_bytes(&split.value).unwrap();
        assert_eq!(
            (
                split.cpu.usage.total,
                split.memory.usage.usage,
                split.pids.current
            ),
            (7000, 4096, 2)
        );
    }
}

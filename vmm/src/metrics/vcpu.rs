//! What a vCPU counts: why it left the guest, and how long it stayed away.

use devices::metrics::{Counter, Latency, Never, Sampler, Timing};

devices::group! {
    /// The counters of one vCPU. **On cache lines of their own**: vCPUs count at the same time.
    #[repr(align(128))]
    pub struct Vcpu {
        /// Reads of ports.
        pub exit_io_in: Counter,
        /// Writes to ports.
        pub exit_io_out: Counter,
        /// Reads of memory-mapped registers.
        pub exit_mmio_read: Counter,
        /// Writes to memory-mapped registers.
        pub exit_mmio_write: Counter,
        /// Exits after which the guest could not go on.
        pub failures: Counter,
        /// Failures of KVM_KVMCLOCK_CTRL: it is not used.
        pub kvmclock_ctrl_fails: Never,
        /// Time to serve a read of a port; every 64th is timed and stands for the others.
        pub exit_io_in_agg: Latency,
        /// Time to serve a write to a port; every 64th is timed and stands for the others.
        pub exit_io_out_agg: Latency,
        /// Time to serve a read of a memory-mapped register; every 64th is timed and stands for the others.
        pub exit_mmio_read_agg: Latency,
        /// Time to serve a write to a memory-mapped register; every 64th is timed and stands for the others.
        pub exit_mmio_write_agg: Latency,
    } and {
        /// Times a signal took the vCPU out of the guest.
        pub interrupted: Counter,
    }
}

/// A kind of access that takes a vCPU out of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A read of a port.
    PortRead,
    /// A write to a port.
    PortWrite,
    /// A read of a memory-mapped register.
    MemoryRead,
    /// A write to a memory-mapped register.
    MemoryWrite,
}

/// Decides which accesses of one vCPU are timed: one in 64 of each kind.
#[derive(Debug, Default)]
pub struct Samplers([Sampler; 4]);

impl Samplers {
    /// Counts an access that begins to be served.
    pub fn begin(&mut self, metrics: &Vcpu, access: Access) -> Option<Timing> {
        let [port_read, port_write, memory_read, memory_write] = &mut self.0;
        let (counter, sampler) = match access {
            Access::PortRead => (&metrics.exit_io_in, port_read),
            Access::PortWrite => (&metrics.exit_io_out, port_write),
            Access::MemoryRead => (&metrics.exit_mmio_read, memory_read),
            Access::MemoryWrite => (&metrics.exit_mmio_write, memory_write),
        };
        counter.increment();
        sampler.begin()
    }
}

impl Vcpu {
    /// An access was served.
    pub fn end(&self, access: Access, timing: Option<Timing>) {
        let Some(timing) = timing else { return };
        timing.end(match access {
            Access::PortRead => &self.exit_io_in_agg,
            Access::PortWrite => &self.exit_io_out_agg,
            Access::MemoryRead => &self.exit_mmio_read_agg,
            Access::MemoryWrite => &self.exit_mmio_write_agg,
        });
    }
}

#[cfg(test)]
mod tests {
    use devices::metrics::{Group, Value};

    use super::*;

    #[test]
    fn two_vcpus_share_no_cache_line() {
        assert_eq!(align_of::<Vcpu>(), 128);
        assert_eq!(size_of::<Vcpu>() % 128, 0);
    }

    #[test]
    fn every_access_is_counted_and_one_in_sixty_four_is_timed() {
        let metrics = Vcpu::default();
        let mut samplers = Samplers::default();
        for access in [Access::PortRead, Access::MemoryWrite] {
            let timed = (0..65).filter(|_| {
                let timing = samplers.begin(&metrics, access);
                let is_timed = timing.is_some();
                metrics.end(access, timing);
                is_timed
            });
            assert_eq!(timed.count(), 2);
        }
        let counts: Vec<_> = metrics
            .figures()
            .iter()
            .filter_map(|figure| match figure.value {
                Value::Count(n) if n > 0 => Some((figure.key, n)),
                _ => None,
            })
            .collect();
        assert_eq!(counts, [("exit_io_in", 65), ("exit_mmio_write", 65)]);
    }
}

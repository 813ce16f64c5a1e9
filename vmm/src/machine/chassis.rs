//! Putting a machine together.

use std::sync::Arc;

use super::vcpu_thread::{Buses, VcpuThread, VcpuThreadError};
use crate::arch::x86_64::{Cores, ProcessorError, Processors, VcpuCount};
use crate::boot::{self, BootError, MmioSlot};
use crate::end::EndReporter;
use crate::kvm::{Kvm, KvmError, Vcpu, VcpuError, Vm, VmError, VmOptions};
use crate::memory::{self, GuestMemory, HugePages, MemoryError, MemorySize};
use crate::metrics::{Kind, Metrics};
use crate::sandbox::{Confinement, Role, SandboxError};
use crate::spec::CpuFeatures;

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// KVM itself.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A call on the VM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A call on a vCPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// What the guest is to see of its processors.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// A vCPU thread that could not be confined.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A vCPU thread.
    #[error(transparent)]
    Thread(#[from] VcpuThreadError),
    /// What the guest boots from.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// More vCPUs than this host's KVM allows.
    #[error("{wanted} vCPUs are more than this host's KVM allows ({most}): give fewer")]
    TooManyVcpus {
        /// What was asked for.
        wanted: u8,
        /// What KVM allows.
        most: usize,
    },
}

/// What a chassis has.
#[derive(Debug, Clone)]
pub struct ChassisPlan {
    /// Guest memory.
    pub memory: MemorySize,
    /// Huge pages for it.
    pub huge_pages: HugePages,
    /// vCPUs.
    pub vcpus: VcpuCount,
    /// What stands before their numbers in their threads' names.
    pub vcpu_name: &'static str,
    /// Whether each two of them are threads of one core.
    pub smt: bool,
    /// What the guest sees of its processors.
    pub features: CpuFeatures,
    /// Whether KVM records which pages the guest writes.
    pub track_dirty_pages: bool,
    /// The i8254, for a guest that boots with `acpi=off`
    /// ([`boot::CommandLine::turns_acpi_off`] tells).
    pub interval_timer: bool,
}

/// Memory, VM and vCPUs, with nothing on the buses yet.
#[derive(Debug)]
pub struct Chassis {
    vcpus: Vec<Vcpu>,
    vcpu_name: &'static str,
    processors: Processors,
    vm: Arc<Vm>,
    memory: GuestMemory,
}

impl Chassis {
    /// Builds it. Every file descriptor that vCPUs need is open afterwards.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(kvm: &Kvm, plan: &ChassisPlan) -> Result<Self, BuildError> {
        let most = kvm.capabilities().max_vcpus;
        if usize::from(plan.vcpus.get()) > most {
            return Err(BuildError::TooManyVcpus {
                wanted: plan.vcpus.get(),
                most,
            });
        }
        let memory = memory::create(plan.memory, plan.huge_pages)?;
        let options = VmOptions {
            interval_timer: plan.interval_timer,
            track_dirty_pages: plan.track_dirty_pages,
        };
        let vm = Vm::create(kvm, &memory, options)?;
        let vcpus = vm.create_vcpus(plan.vcpus)?;
        let processors = Processors::new(
            kvm.supported_cpuid()?,
            kvm.capabilities(),
            Cores {
                vcpus: plan.vcpus,
                smt: plan.smt,
            },
            &plan.features,
        )?;
        Ok(Self {
            vcpus,
            vcpu_name: plan.vcpu_name,
            processors,
            vm: Arc::new(vm),
            memory,
        })
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The VM, to register interrupts and doorbells with.
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// Starts the vCPU threads on `buses`, loads `source`, and puts every vCPU into its first state.
    /// Nothing runs until [`Guest::resume`]; the threads are confined before. The guest is told of the virtio devices in `slots`.
    ///
    /// The threads are started first: waking them takes as long as loading the kernel. `complete` hears when every
    /// thread is there and nothing will be opened or closed any more, while the vCPUs are still being set up.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn assemble(
        self,
        buses: &Buses,
        ends: &EndReporter,
        source: boot::Source,
        slots: &[MmioSlot],
        confinement: &Confinement,
        complete: impl FnOnce(),
    ) -> Result<Guest, BuildError> {
        let threads = self
            .vcpus
            .into_iter()
            .map(|vcpu| {
                let name = format!("{}{}", self.vcpu_name, vcpu.index());
                VcpuThread::start(vcpu, name, buses.clone(), ends.clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let count = self.processors.count();
        let start = boot::load(&self.memory, source, count, slots)?;
        let processors = Arc::new(self.processors);
        let configured = threads
            .iter()
            .map(|thread| {
                let processors = Arc::clone(&processors);
                let confinement = confinement.clone();
                thread.begin(move |vcpu| {
                    processors.configure(vcpu, &start)?;
                    Ok::<_, BuildError>(confinement.enter(Role::Vcpu)?)
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        complete();
        for (index, result) in (0..count.get()).zip(configured) {
            result.recv().map_err(|_| VcpuThreadError::Gone(index))??;
        }
        Ok(Guest {
            threads,
            vm: self.vm,
            memory: self.memory,
        })
    }
}

/// A guest whose vCPUs have threads. Dropping it stops them.
#[derive(Debug)]
pub struct Guest {
    // Dropped first: no vCPU runs when the VM and its memory go.
    threads: Vec<VcpuThread>,
    vm: Arc<Vm>,
    memory: GuestMemory,
}

impl Guest {
    /// Lets every vCPU run.
    ///
    /// # Errors
    /// A vCPU thread that is gone.
    pub fn resume(&self) -> Result<(), VcpuThreadError> {
        self.threads.iter().try_for_each(VcpuThread::resume)
    }

    /// Parks every vCPU and waits until none is in the guest.
    ///
    /// # Errors
    /// A vCPU thread that is gone.
    pub fn pause(&self) -> Result<(), VcpuThreadError> {
        self.threads.iter().try_for_each(VcpuThread::pause)
    }

    /// Has everything that the vCPUs count told of.
    pub fn count_in(&self, metrics: &mut Metrics) {
        for (index, thread) in self.threads.iter().enumerate() {
            metrics.add(Kind::Vcpu, &index.to_string(), thread.metrics());
        }
    }

    /// The vCPU threads, in vCPU order.
    pub fn vcpus(&self) -> &[VcpuThread] {
        &self.threads
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The VM.
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // All at once, so that the last one is not waited for one by one.
        for thread in &self.threads {
            thread.stop();
        }
    }
}

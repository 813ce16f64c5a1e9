//! The thread of one vCPU.
//!
//! ```text
//!            resume                   pause
//!  parked ----------> running ----------------> parked
//!    |                   |
//!    | stop              | stop, or the guest ended (then parked until stop)
//!    v                   v
//!  gone                gone
//! ```
//!
//! A parked thread waits on its order queue and costs nothing; a running one is in `KVM_RUN`. An order
//! is put into the queue first and the thread is kicked afterwards, so none is lost. Registers are read
//! and written by a task that the thread itself runs between two entries ([`VcpuThread::ask`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use devices::bus::Bus;
use vmm_sys_util::signal::Killable;

use crate::end::EndReporter;
use crate::kvm::{BoundVcpu, Exit, Registers, Vcpu, kick_signal};
use crate::metrics::vcpu::{self, Access, Samplers};

/// The two address spaces that vCPUs see.
#[derive(Debug, Clone)]
pub struct Buses {
    /// Ports.
    pub ports: Arc<Bus>,
    /// Memory that no slot backs: memory-mapped registers.
    pub memory: Arc<Bus>,
}

/// A vCPU thread that does not do as told.
#[derive(Debug, thiserror::Error)]
pub enum VcpuThreadError {
    /// The thread could not be started.
    #[error(
        "the thread of vCPU {index} could not be started: {source}; raise the limit on processes"
    )]
    Spawn {
        /// Which vCPU.
        index: u8,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The thread ended before it did what it was asked.
    #[error("the thread of vCPU {0} is gone")]
    Gone(u8),
}

type Task = Box<dyn FnOnce(&Vcpu) + Send>;

enum Order {
    Resume,
    Pause(Sender<()>),
    Task(Task),
    Stop,
}

/// A vCPU and its thread. Dropping it stops the thread and waits for it.
#[derive(Debug)]
pub struct VcpuThread {
    index: u8,
    metrics: Arc<vcpu::Vcpu>,
    orders: Sender<Order>,
    ordered: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl VcpuThread {
    /// Starts the thread `name`, parked.
    ///
    /// # Errors
    /// [`VcpuThreadError::Spawn`]; [`VcpuThreadError::Gone`] when it could not take its vCPU.
    pub fn start(
        vcpu: Vcpu,
        name: String,
        buses: Buses,
        ends: EndReporter,
    ) -> Result<Self, VcpuThreadError> {
        let index = vcpu.index();
        let (orders, queue) = channel();
        let ordered = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ordered);
        let metrics = Arc::<vcpu::Vcpu>::default();
        let counted = Arc::clone(&metrics);
        let thread = thread::Builder::new()
            .name(name)
            .stack_size(devices::io_thread::STACK)
            .spawn(move || match vcpu.bind() {
                Ok(vcpu) => Runner {
                    vcpu,
                    buses,
                    ends,
                    queue,
                    ordered: seen,
                    phase: Phase::Parked,
                    metrics: counted,
                    samplers: Samplers::default(),
                }
                .serve(),
                // The queue is dropped: whoever asks this thread next hears that it is gone.
                Err(error) => log::error!("vCPU {index} could not be bound to its thread: {error}"),
            })
            .map_err(|source| VcpuThreadError::Spawn { index, source })?;
        Ok(Self {
            index,
            metrics,
            orders,
            ordered,
            thread: Some(thread),
        })
    }

    /// What the vCPU counts.
    pub fn metrics(&self) -> Arc<vcpu::Vcpu> {
        Arc::clone(&self.metrics)
    }

    /// Lets the guest run; does not wait.
    ///
    /// # Errors
    /// [`VcpuThreadError::Gone`].
    pub fn resume(&self) -> Result<(), VcpuThreadError> {
        self.order(Order::Resume)
    }

    /// Parks the thread, and waits until it left the guest with its last access completed.
    ///
    /// # Errors
    /// [`VcpuThreadError::Gone`].
    pub fn pause(&self) -> Result<(), VcpuThreadError> {
        let (parked, wait) = channel();
        self.order(Order::Pause(parked))?;
        wait.recv().map_err(|RecvError| self.gone())
    }

    /// Has `task` done by the thread, outside the guest, and waits for its result.
    ///
    /// # Errors
    /// [`VcpuThreadError::Gone`].
    pub fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Vcpu) -> T + Send + 'static,
    ) -> Result<T, VcpuThreadError> {
        self.begin(task)?.recv().map_err(|RecvError| self.gone())
    }

    /// As [`Self::ask`], without waiting: the result comes through the returned channel.
    ///
    /// # Errors
    /// [`VcpuThreadError::Gone`].
    pub fn begin<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Vcpu) -> T + Send + 'static,
    ) -> Result<Receiver<T>, VcpuThreadError> {
        let (result, wait) = sync_channel(1);
        self.order(Order::Task(Box::new(move |vcpu| {
            // Nobody waits for the result any more: then it is not wanted.
            result.send(task(vcpu)).ok();
        })))?;
        Ok(wait)
    }

    /// Tells the thread to end; does not wait. Dropping waits.
    pub fn stop(&self) {
        // A thread that is gone already has stopped.
        self.order(Order::Stop).ok();
    }

    fn order(&self, order: Order) -> Result<(), VcpuThreadError> {
        self.orders.send(order).map_err(|_| self.gone())?;
        self.ordered.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            // It fails only for a thread that is gone, and that takes no orders.
            thread.kill(kick_signal()).ok();
        }
        Ok(())
    }

    fn gone(&self) -> VcpuThreadError {
        VcpuThreadError::Gone(self.index)
    }
}

impl Drop for VcpuThread {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of vCPU {} panicked", self.index);
        }
    }
}

/// What lives on the thread.
struct Runner {
    vcpu: BoundVcpu,
    buses: Buses,
    ends: EndReporter,
    queue: Receiver<Order>,
    ordered: Arc<AtomicBool>,
    phase: Phase,
    metrics: Arc<vcpu::Vcpu>,
    samplers: Samplers,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Parked,
    Running,
    Leaving,
}

impl Runner {
    fn serve(mut self) {
        while self.phase != Phase::Leaving {
            match self.phase {
                Phase::Running => self.run_guest(),
                // The queue ends when its owner is gone.
                _ => match self.queue.recv() {
                    Ok(order) => self.obey(order),
                    Err(RecvError) => return,
                },
            }
        }
    }

    fn run_guest(&mut self) {
        while self.phase == Phase::Running {
            if self.ordered.swap(false, Ordering::Acquire) {
                self.obey_queue();
            } else {
                self.step();
            }
        }
    }

    /// One entry into the guest and what it asked for.
    fn step(&mut self) {
        let (metrics, samplers) = (&self.metrics, &mut self.samplers);
        match self.vcpu.run() {
            Exit::PortRead { port, width, data } => {
                let timing = samplers.begin(metrics, Access::PortRead);
                for access in data.chunks_mut(width) {
                    self.buses.ports.read(u64::from(port), access);
                }
                metrics.end(Access::PortRead, timing);
            }
            Exit::PortWrite { port, width, data } => {
                let timing = samplers.begin(metrics, Access::PortWrite);
                for access in data.chunks(width) {
                    self.buses.ports.write(u64::from(port), access);
                }
                metrics.end(Access::PortWrite, timing);
                self.park_if_ended();
            }
            Exit::MemoryRead { address, data } => {
                let timing = samplers.begin(metrics, Access::MemoryRead);
                self.buses.memory.read(address, data);
                metrics.end(Access::MemoryRead, timing);
            }
            Exit::MemoryWrite { address, data } => {
                let timing = samplers.begin(metrics, Access::MemoryWrite);
                self.buses.memory.write(address, data);
                metrics.end(Access::MemoryWrite, timing);
                self.park_if_ended();
            }
            Exit::Interrupted => metrics.interrupted.increment(),
            Exit::End(end) => {
                metrics.failures.increment();
                self.log_registers();
                self.ends.report(end);
                self.phase = Phase::Parked;
            }
        }
    }

    /// A guest that cannot go on has died where its vCPU stands.
    fn log_registers(&self) {
        if !log::log_enabled!(log::Level::Debug) {
            return;
        }
        let vcpu = self.vcpu.vcpu();
        let index = vcpu.index();
        match Registers::read(vcpu) {
            Ok(registers) => log::debug!("vCPU {index} at its guest's end: {registers}"),
            Err(error) => log::debug!("{error}"),
        }
    }

    /// A device may have ended the guest by this very write: then not one more instruction runs.
    fn park_if_ended(&mut self) {
        if self.ends.has_ended() {
            self.phase = Phase::Parked;
        }
    }

    /// Obeys what was ordered while the guest ran.
    fn obey_queue(&mut self) {
        let mut completed = false;
        while let Ok(order) = self.queue.try_recv() {
            if !completed {
                self.vcpu.complete_access();
                completed = true;
            }
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Resume if self.phase == Phase::Parked && !self.ends.has_ended() => {
                self.phase = Phase::Running;
            }
            // It runs already, leaves, or has nothing left to run.
            Order::Resume => {}
            Order::Pause(parked) => {
                if self.phase == Phase::Running {
                    self.phase = Phase::Parked;
                }
                // Whoever asked may have gone away; parked is parked.
                parked.send(()).ok();
            }
            Order::Task(task) => task(self.vcpu.vcpu()),
            Order::Stop => self.phase = Phase::Leaving,
        }
    }
}

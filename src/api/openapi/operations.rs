//! What stands beside each row of the table of paths: a summary, the shape of the body and of the answer.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use vmm::command::{
    CreateSnapshot, DriveUpdate, LoadSnapshot, MemoryHotplugUpdate, NetworkUpdate, PmemUpdate,
};
use vmm::spec::{
    Balloon, BootSource, CpuConfig, Entropy, LoggerConfig, MachineConfig, MachinePatch,
    MemoryHotplug, MetricsConfig, MmdsConfig, NetworkInterface, Pmem, Serial, Spec, Vsock,
};

use crate::api::http::Method::{self, Delete, Get, Patch, Put};
use crate::api::reply::{InstanceBody, VersionBody};
use crate::api::resources::{actions, balloon, drives, vm};

/// Makes the schema of a type.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A method of a path.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) body: Option<Shape>,
    pub(super) answer: Answer,
    /// What else is to be known.
    pub(super) note: Note,
}

/// What a request that is met gets.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// 204.
    Done,
    /// JSON of this shape.
    Shows(Shape),
    /// Text for Prometheus.
    Text,
    /// A stream that does not end before the VM.
    Events,
    /// It is never met in this version.
    NotYet,
}

/// What is special about an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Plain,
    /// Its body has fields that will go away.
    Deprecates,
    /// It may meet the limit of the metadata.
    Limited,
}

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

const fn get(path: &'static str, summary: &'static str, answer: Answer) -> Operation {
    row(Get, path, summary, None, answer)
}

const fn put(path: &'static str, summary: &'static str, body: Shape) -> Operation {
    row(Put, path, summary, Some(body), Answer::Done)
}

const fn patch(path: &'static str, summary: &'static str, body: Shape) -> Operation {
    row(Patch, path, summary, Some(body), Answer::Done)
}

const fn delete(path: &'static str, summary: &'static str) -> Operation {
    row(Delete, path, summary, None, Answer::NotYet)
}

const fn row(
    method: Method,
    path: &'static str,
    summary: &'static str,
    body: Option<Shape>,
    answer: Answer,
) -> Operation {
    Operation {
        method,
        path,
        summary,
        body,
        answer,
        note: Note::Plain,
    }
}

impl Operation {
    const fn not_yet(self) -> Self {
        let answer = Answer::NotYet;
        Self { answer, ..self }
    }

    const fn deprecates(self) -> Self {
        let note = Note::Deprecates;
        Self { note, ..self }
    }

    const fn limited(self) -> Self {
        let note = Note::Limited;
        Self { note, ..self }
    }
}

/// All of them, in the order of the table of paths.
pub(super) const OPERATIONS: &[Operation] = &[
    get(
        "/",
        "Which VM, and how it is",
        Answer::Shows(of::<InstanceBody<'_>>),
    ),
    get(
        "/version",
        "Which version of Firecracker's API is spoken",
        Answer::Shows(of::<VersionBody>),
    ),
    get(
        "/vm/config",
        "The whole description",
        Answer::Shows(of::<Spec>),
    ),
    patch("/vm", "Pause or resume the vCPUs", of::<vm::VmState>),
    put(
        "/actions",
        "Start the guest, press Ctrl-Alt-Del, write the figures",
        of::<actions::Action>,
    ),
    put("/boot-source", "What to boot", of::<BootSource>),
    get(
        "/machine-config",
        "Processors and memory",
        Answer::Shows(of::<MachineConfig>),
    ),
    put(
        "/machine-config",
        "Describe processors and memory",
        of::<MachineConfig>,
    )
    .deprecates(),
    patch(
        "/machine-config",
        "Change some of processors and memory",
        of::<MachinePatch>,
    )
    .deprecates(),
    put(
        "/cpu-config",
        "Change what the guest sees of its processors",
        of::<CpuConfig>,
    ),
    put("/drives/{drive_id}", "Describe a disk", of::<drives::Body>),
    patch(
        "/drives/{drive_id}",
        "Change a disk: another file, another size, other limits",
        of::<DriveUpdate>,
    ),
    delete("/drives/{drive_id}", "Take a disk away"),
    put(
        "/network-interfaces/{iface_id}",
        "Describe a network card",
        of::<NetworkInterface>,
    ),
    patch(
        "/network-interfaces/{iface_id}",
        "Change a network card's limits",
        of::<NetworkUpdate>,
    ),
    delete("/network-interfaces/{iface_id}", "Take a network card away"),
    put("/pmem/{id}", "Describe persistent memory", of::<Pmem>),
    patch(
        "/pmem/{id}",
        "Change persistent memory's limits",
        of::<PmemUpdate>,
    )
    .not_yet(),
    delete("/pmem/{id}", "Take persistent memory away"),
    put(
        "/vsock",
        "Describe the socket between guest and host",
        of::<Vsock>,
    )
    .deprecates(),
    get("/balloon", "The balloon", Answer::Shows(of::<Balloon>)),
    put("/balloon", "Describe the balloon", of::<Balloon>),
    patch(
        "/balloon",
        "Change the balloon's size",
        of::<balloon::Amount>,
    )
    .not_yet(),
    get(
        "/balloon/statistics",
        "What the guest says of its memory",
        Answer::NotYet,
    ),
    patch(
        "/balloon/statistics",
        "Change how often the guest reports",
        of::<balloon::Interval>,
    )
    .not_yet(),
    patch(
        "/balloon/hinting/start",
        "Begin to hint at free pages",
        of::<balloon::Hinting>,
    )
    .not_yet(),
    patch("/balloon/hinting/stop", "No more hints", object).not_yet(),
    get(
        "/balloon/hinting/status",
        "How far hinting is",
        Answer::NotYet,
    ),
    put("/entropy", "Describe the entropy source", of::<Entropy>),
    put("/serial", "Describe the serial port", of::<Serial>),
    get(
        "/hotplug/memory",
        "Memory that can be plugged",
        Answer::NotYet,
    ),
    put(
        "/hotplug/memory",
        "Describe memory to plug",
        of::<MemoryHotplug>,
    ),
    patch(
        "/hotplug/memory",
        "Plug or unplug memory",
        of::<MemoryHotplugUpdate>,
    )
    .not_yet(),
    put("/logger", "How ravelin logs", of::<LoggerConfig>),
    put("/metrics", "Where the figures go", of::<MetricsConfig>),
    get("/mmds", "The metadata", Answer::Shows(object)),
    put("/mmds", "Replace the metadata", object).limited(),
    patch("/mmds", "Merge into the metadata (RFC 7396)", object).limited(),
    put(
        "/mmds/config",
        "Describe the metadata service",
        of::<MmdsConfig>,
    )
    .deprecates(),
    put(
        "/snapshot/create",
        "Save the paused VM",
        of::<CreateSnapshot>,
    )
    .not_yet(),
    put(
        "/snapshot/load",
        "Build the machine from a snapshot",
        of::<LoadSnapshot>,
    )
    .not_yet()
    .deprecates(),
    get(
        "/ravelin/health",
        "Whether the VM answers, and how it is",
        Answer::Shows(of::<InstanceBody<'_>>),
    ),
    get(
        "/ravelin/metrics",
        "Every figure since the start, as Prometheus reads it",
        Answer::Text,
    ),
    get(
        "/ravelin/events",
        "What happens from now on, as server-sent events",
        Answer::Events,
    ),
    get(
        "/ravelin/openapi.json",
        "This description",
        Answer::Shows(object),
    ),
    row(
        Put,
        "/ravelin/fds/{name}",
        "Keep the one descriptor sent along (SCM_RIGHTS), to be used as fd:NAME for a path or a tap",
        None,
        Answer::Done,
    ),
];

//! What may be wrong with a description: one sentence each.

use super::{MAX_ID, MAX_VCPUS, MacAddr, TapName};

/// What is wrong with a [`Spec`]: one sentence each, with what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No kernel.
    #[error(
        "Cannot start microvm without kernel configuration. No kernel was given: name an ELF vmlinux or a \
         bzImage with --kernel FILE, or as kernel_image_path"
    )]
    NoKernel,
    /// Not between 1 and 32.
    #[error(
        "{0} vCPUs were asked for and a machine has 1 to {MAX_VCPUS}: ask for a number in that range"
    )]
    Vcpus(u32),
    /// An odd number of threads on two-threaded cores.
    #[error(
        "{0} vCPUs were asked for with smt, which has two on each core: ask for 1 or an even number, or \
         leave smt out"
    )]
    OddSmt(u8),
    /// An id that cannot be a name.
    #[error(
        "the {kind} id `{id}` was given and 1 to {MAX_ID} letters, digits and underscores were expected"
    )]
    Id {
        /// drive or network interface.
        kind: &'static str,
        /// What was given.
        id: String,
    },
    /// An id twice.
    #[error("two {kind}s are called `{id}`: give each an id of its own")]
    DuplicateId {
        /// drive or network interface.
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// Two root devices.
    #[error(
        "A root block device already exists: the drives `{0}` and `{1}` are both the root device, keep one"
    )]
    TwoRoots(String, String),
    /// A drive without a file.
    #[error("the drive `{0}` has no path_on_host: name a file or block device")]
    NoPath(String),
    /// One file behind two disks, one of which may be written.
    #[error(
        "the drives `{0}` and `{1}` are both {2}, which at least one of them may write: give each a file of \
         its own, or make both read-only"
    )]
    SharedPath(String, String, String),
    /// A serial number that does not fit.
    #[error(
        "the drive `{id}` has the serial number `{serial}` and up to 20 printable ASCII characters were \
         expected: shorten it"
    )]
    Serial {
        /// The drive.
        id: String,
        /// What was given.
        serial: String,
    },
    /// A vhost-user socket.
    #[error("the drive `{0}` has a socket and this version has no vhost-user: name a path_on_host")]
    NoVhostUser(String),
    /// The same host device twice.
    #[error("the tap `{0}` is used by two network interfaces: give each a tap of its own")]
    DuplicateTap(TapName),
    /// The same MAC address twice.
    #[error(
        "The MAC address is already in use: {0} is used by two network interfaces; give each its own"
    )]
    DuplicateMac(MacAddr),
    /// The metadata service.
    #[error(transparent)]
    Mmds(#[from] devices::mmds::ConfigError),
    /// An odd number of MiB in pages of two.
    #[error(
        "{0} MiB of memory were asked for in huge pages of 2 MiB: ask for an even number, or for other pages"
    )]
    OddHugePages(u64),
    /// A balloon for more memory than there is.
    #[error("a balloon of {amount} MiB was asked for in a guest of {memory} MiB: ask for less")]
    BalloonTooLarge {
        /// What was asked for, in MiB.
        amount: u32,
        /// The guest's memory in MiB.
        memory: u64,
    },
    /// A context id that is not a guest's.
    #[error("the guest_cid {0} was given and a guest's is 3 or more: give such a one")]
    Cid(u32),
    /// A socket without a path.
    #[error("the vsock device has an empty uds_path: name a unix socket")]
    NoVsockPath,
    /// Sizes of pluggable memory that do not fit each other.
    #[error(
        "memory to plug was described as {total} MiB in slots of {slot} MiB and blocks of {block} MiB: blocks \
         are powers of two from 2 MiB on, slots whole blocks from 128 MiB on, the total whole slots"
    )]
    Hotplug {
        /// The most that can be plugged.
        total: u64,
        /// A slot.
        slot: u64,
        /// A block.
        block: u64,
    },
    /// A device that cannot be built yet.
    #[error("{0} was described and this version cannot build it: leave it out")]
    Planned(&'static str),
    /// The devices do not fit.
    #[error("{count} devices were asked for and the machine has {max} interrupt lines for them")]
    TooManyDevices {
        /// Drives, network interfaces, the entropy source and the vsock device together.
        count: usize,
        /// The most.
        max: usize,
    },
}

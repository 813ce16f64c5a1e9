//! What the `CPUID` instruction tells a guest: what KVM supports, minus what this machine does not
//! offer, with the guest's own topology in place of the host's.
//!
//! | leaf | change |
//! | --- | --- |
//! | `1` | initial APIC id, logical processors, hypervisor and TSC deadline bits; no VMX, no performance capabilities, no debug store |
//! | `4` | caches shared by this machine's processors (Intel) |
//! | `7` | no SGX: there is no enclave memory |
//! | `0xa`, `0x8000_0022` | no performance monitoring unit |
//! | `0xb`, `0x1f` | one or two threads a core, all cores in one package |
//! | `0x8000_0001` | no SVM, no performance counters; multi-core bit (AMD) |
//! | `0x8000_0008` | core count and APIC id size (AMD) |
//! | `0x8000_001d`, `0x8000_001e` | caches and extended APIC id (AMD) |
//! | `0x8000_0026` | left out: it would tell the host's topology (AMD) |
//!
//! Guest hypervisors (VMX, SVM) are hidden: nested virtualisation is the largest attack surface KVM has
//! and no guest of this machine needs it. APIC ids are 0, 1, 2, ... in vCPU order.
//!
//! Sources: Intel SDM 2A, "CPUID"; AMD APM 3, appendix E; KVM `api.rst`, `KVM_SET_CPUID2`.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::Cores;

/// What the host offers beyond the leaves that KVM reports as supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// The local APIC's timer can be armed with a time stamp (`KVM_CAP_TSC_DEADLINE_TIMER`).
    pub tsc_deadline: bool,
}

const ECX_PDCM: u32 = 1 << 15;
const ECX_VMX: u32 = 1 << 5;
const ECX_DEBUG_STORE: u32 = (1 << 2) | (1 << 4);
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_DEBUG_STORE: u32 = 1 << 21;
const EDX_MULTI_THREADING: u32 = 1 << 28;
const EBX_SGX: u32 = 1 << 2;
const ECX_SGX_LAUNCH: u32 = 1 << 30;
const AMD_ECX_MULTI_CORE: u32 = 1 << 1;
const AMD_ECX_SVM: u32 = 1 << 2;
const AMD_ECX_PERFORMANCE: u32 = (1 << 23) | (1 << 24) | (1 << 28);
const CACHE_LINE_UNITS: u32 = 8;
const TOPOLOGY_LEAVES: [u32; 2] = [0xb, 0x1f];
/// AMD's own topology leaf: without it Linux takes leaf `0xb`.
const AMD_TOPOLOGY_LEAF: u32 = 0x8000_0026;
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// The machine's topology, as one vCPU sees it: one package of `count` threads.
#[derive(Clone, Copy)]
struct Topology {
    apic_id: u32,
    count: u32,
    /// Threads of a core: 1 or 2.
    threads: u32,
    /// Bits of the APIC id that number the threads of a core.
    thread_bits: u32,
    /// Bits of the APIC id that number the threads of the package.
    package_bits: u32,
}

impl Topology {
    fn new(index: u8, cores: Cores) -> Self {
        let count = u32::from(cores.vcpus.get());
        let threads = if cores.smt && count > 1 { 2 } else { 1 };
        Self {
            apic_id: u32::from(index),
            count,
            threads,
            thread_bits: threads.trailing_zeros(),
            package_bits: count.next_power_of_two().trailing_zeros(),
        }
    }
}

/// The leaves for vCPU number `index` of `cores`, from those that KVM supports.
pub fn for_vcpu(supported: &CpuId, index: u8, cores: Cores, features: Features) -> CpuId {
    let topology = Topology::new(index, cores);
    let amd = is_amd(supported.as_slice());
    let mut leaves: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|leaf| {
            leaf.function != AMD_TOPOLOGY_LEAF && !TOPOLOGY_LEAVES.contains(&leaf.function)
        })
        .map(|leaf| {
            let mut leaf = *leaf;
            change(&mut leaf, topology, features, amd);
            leaf
        })
        .collect();
    let highest = find(&leaves, 0).map_or(0, |leaf| leaf.eax);
    for function in TOPOLOGY_LEAVES {
        if function <= highest {
            leaves.extend(topology_levels(function, topology));
        }
    }
    CpuId::from_entries(&leaves).expect("KVM reports far fewer leaves than the most there can be")
}

fn is_amd(leaves: &[kvm_cpuid_entry2]) -> bool {
    const VENDORS: [&[u8; 12]; 2] = [b"AuthenticAMD", b"HygonGenuine"];
    vendor(leaves).is_some_and(|name| VENDORS.contains(&&name))
}

/// The first leaf for `function`.
pub(super) fn find(leaves: &[kvm_cpuid_entry2], function: u32) -> Option<&kvm_cpuid_entry2> {
    leaves.iter().find(|leaf| leaf.function == function)
}

/// The maker's name, twelve letters.
pub(super) fn vendor(leaves: &[kvm_cpuid_entry2]) -> Option<[u8; 12]> {
    let leaf = find(leaves, 0)?;
    let mut name = [0; 12];
    for (letters, word) in name.chunks_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        letters.copy_from_slice(&word.to_le_bytes());
    }
    Some(name)
}

fn change(leaf: &mut kvm_cpuid_entry2, topology: Topology, features: Features, amd: bool) {
    match leaf.function {
        0x1 => feature_leaf(leaf, topology, features),
        0x4 => cache_leaf(leaf, topology),
        0x7 if leaf.index == 0 => {
            leaf.ebx &= !EBX_SGX;
            leaf.ecx &= !ECX_SGX_LAUNCH;
        }
        0xa | 0x8000_0022 => (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0),
        0x8000_0001 => {
            leaf.ecx &= !(AMD_ECX_SVM | AMD_ECX_PERFORMANCE | AMD_ECX_MULTI_CORE);
            if amd && topology.count > 1 {
                leaf.ecx |= AMD_ECX_MULTI_CORE;
            }
        }
        0x8000_0008 if amd => {
            leaf.ecx = (leaf.ecx & !0xf0ff) | (topology.package_bits << 12) | (topology.count - 1);
        }
        0x8000_001d => amd_cache_leaf(leaf, topology),
        // The core's number and its threads less one; one node a package.
        0x8000_001e => {
            let core = topology.apic_id >> topology.thread_bits;
            leaf.ebx = core | ((topology.threads - 1) << 8);
            (leaf.eax, leaf.ecx) = (topology.apic_id, 0);
        }
        _ => {}
    }
}

fn feature_leaf(leaf: &mut kvm_cpuid_entry2, topology: Topology, features: Features) {
    let logical = topology.count.next_power_of_two();
    leaf.ebx =
        (leaf.ebx & 0xff) | (CACHE_LINE_UNITS << 8) | (logical << 16) | (topology.apic_id << 24);
    leaf.ecx &= !(ECX_PDCM | ECX_VMX | ECX_DEBUG_STORE | ECX_TSC_DEADLINE);
    leaf.ecx |= ECX_HYPERVISOR;
    if features.tsc_deadline {
        leaf.ecx |= ECX_TSC_DEADLINE;
    }
    leaf.edx &= !(EDX_DEBUG_STORE | EDX_MULTI_THREADING);
    if topology.count > 1 {
        leaf.edx |= EDX_MULTI_THREADING;
    }
}

/// Level 1 and 2 caches belong to one core, level 3 to all.
fn sharers(level: u32, topology: Topology) -> u32 {
    if level < 3 {
        topology.threads
    } else {
        topology.count
    }
}

fn cache_leaf(leaf: &mut kvm_cpuid_entry2, topology: Topology) {
    if leaf.eax & 0x1f == 0 {
        return;
    }
    let sharers = sharers((leaf.eax >> 5) & 7, topology);
    // Both fields count APIC ids, rounded up to a power of two, less one.
    let cores = (1 << (topology.package_bits - topology.thread_bits)) - 1;
    let sharing = sharers.next_power_of_two() - 1;
    leaf.eax = (leaf.eax & 0x3fff) | (sharing << 14) | (cores << 26);
}

fn amd_cache_leaf(leaf: &mut kvm_cpuid_entry2, topology: Topology) {
    if leaf.eax & 0x1f == 0 {
        return;
    }
    let sharers = sharers((leaf.eax >> 5) & 7, topology);
    leaf.eax = (leaf.eax & 0x3fff) | ((sharers - 1) << 14);
}

fn topology_levels(function: u32, topology: Topology) -> [kvm_cpuid_entry2; 3] {
    let level = |index: u32, kind: u32, shift: u32, count: u32| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: index | (kind << 8),
        edx: topology.apic_id,
        ..Default::default()
    };
    [
        level(0, LEVEL_THREAD, topology.thread_bits, topology.threads),
        level(1, LEVEL_CORE, topology.package_bits, topology.count),
        level(2, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::VcpuCount;
    use super::*;

    const FEATURES: Features = Features { tsc_deadline: true };

    fn leaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 {
            function,
            index,
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        }
    }

    fn vendor(name: &[u8; 12], highest: u32) -> kvm_cpuid_entry2 {
        let word = |at: usize| u32::from_le_bytes(name[at..at + 4].try_into().unwrap());
        leaf(0, 0, [highest, word(0), word(8), word(4)])
    }

    fn guest(leaves: &[kvm_cpuid_entry2], index: u8, count: u64) -> Vec<kvm_cpuid_entry2> {
        guest_on(leaves, index, count, false)
    }

    fn guest_on(
        leaves: &[kvm_cpuid_entry2],
        index: u8,
        count: u64,
        smt: bool,
    ) -> Vec<kvm_cpuid_entry2> {
        let supported = CpuId::from_entries(leaves).unwrap();
        let vcpus = VcpuCount::new(count).unwrap();
        for_vcpu(&supported, index, Cores { vcpus, smt }, FEATURES)
            .as_slice()
            .to_vec()
    }

    fn find(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
        let found: Vec<_> = leaves
            .iter()
            .filter(|leaf| (leaf.function, leaf.index) == (function, index))
            .collect();
        assert_eq!(found.len(), 1, "leaf {function:#x}.{index}");
        [found[0].eax, found[0].ebx, found[0].ecx, found[0].edx]
    }

    #[test]
    fn the_feature_leaf_numbers_the_processor_and_hides_what_is_not_offered() {
        let host = [
            vendor(b"GenuineIntel", 0x1f),
            leaf(1, 0, [7, u32::MAX, u32::MAX, u32::MAX]),
        ];
        let [eax, ebx, ecx, edx] = find(&guest(&host, 2, 3), 1, 0);
        assert_eq!(eax, 7);
        assert_eq!(ebx, 0x0204_08ff);
        assert_eq!(ecx & (ECX_VMX | ECX_PDCM | ECX_DEBUG_STORE), 0);
        assert_eq!(ecx & ECX_TSC_DEADLINE, ECX_TSC_DEADLINE);
        assert_eq!(edx & EDX_MULTI_THREADING, EDX_MULTI_THREADING);
        let [_, ebx, ecx, edx] = find(&guest(&[leaf(1, 0, [0; 4])], 0, 1), 1, 0);
        assert_eq!(ebx, 0x0001_0800);
        assert_eq!(ecx, ECX_HYPERVISOR | ECX_TSC_DEADLINE);
        assert_eq!(edx, 0);
    }

    #[test]
    fn the_tsc_deadline_bit_follows_the_host() {
        let supported = CpuId::from_entries(&[leaf(1, 0, [0, 0, u32::MAX, 0])]).unwrap();
        let none = Features {
            tsc_deadline: false,
        };
        let one = Cores {
            vcpus: VcpuCount::new(1).unwrap(),
            smt: false,
        };
        let guest = for_vcpu(&supported, 0, one, none);
        assert_eq!(guest.as_slice()[0].ecx & ECX_TSC_DEADLINE, 0);
    }

    #[test]
    fn topology_levels_replace_those_of_the_host() {
        let host = [
            vendor(b"GenuineIntel", 0x1f),
            leaf(0xb, 0, [1, 2, 0x100, 77]),
            leaf(0xb, 1, [5, 32, 0x201, 77]),
            leaf(0x1f, 0, [1, 2, 0x100, 77]),
        ];
        let table = [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (32, 5)];
        for (count, shift) in table {
            let last = u8::try_from(count - 1).unwrap();
            let leaves = guest(&host, last, count);
            let count = u32::try_from(count).unwrap();
            for function in TOPOLOGY_LEAVES {
                let id = count - 1;
                assert_eq!(find(&leaves, function, 0), [0, 1, 0x100, id]);
                assert_eq!(find(&leaves, function, 1), [shift, count, 0x201, id]);
                assert_eq!(find(&leaves, function, 2), [0, 0, 2, id]);
            }
        }
    }

    #[test]
    fn topology_leaves_above_the_highest_leaf_are_left_out() {
        let leaves = guest(&[vendor(b"AuthenticAMD", 0xd)], 0, 4);
        assert!(leaves.iter().any(|leaf| leaf.function == 0xb));
        assert!(leaves.iter().all(|leaf| leaf.function != 0x1f));
    }

    #[test]
    fn intel_caches_are_shared_by_this_machines_cores() {
        let host = [
            vendor(b"GenuineIntel", 0x1f),
            leaf(4, 0, [0xfc00_4121, 1, 2, 3]),
            leaf(4, 3, [0xfc0f_c163, 1, 2, 3]),
            leaf(4, 4, [0, 0, 0, 0]),
        ];
        let leaves = guest(&host, 0, 4);
        assert_eq!(find(&leaves, 4, 0)[0], 0x0c00_0121);
        assert_eq!(find(&leaves, 4, 3)[0], 0x0c00_c163);
        assert_eq!(find(&leaves, 4, 4), [0; 4]);
    }

    #[test]
    fn amd_leaves_tell_cores_and_caches() {
        let host = [
            vendor(b"AuthenticAMD", 0x10),
            leaf(0x8000_0001, 0, [0, 0, u32::MAX, 0]),
            leaf(0x8000_0008, 0, [0x3030, 0, 0xffff_ffff, 0]),
            leaf(0x8000_001d, 0, [0x0000_4121, 0, 0, 0]),
            leaf(0x8000_001d, 3, [0x0003_c163, 0, 0, 0]),
            leaf(0x8000_001e, 0, [9, 0x0109, 0x0300, 0]),
            leaf(0x8000_0026, 0, [1, 2, 0x100, 9]),
        ];
        let leaves = guest(&host, 3, 6);
        assert!(leaves.iter().all(|leaf| leaf.function != 0x8000_0026));
        let ecx = find(&leaves, 0x8000_0001, 0)[2];
        assert_eq!(ecx & (AMD_ECX_SVM | AMD_ECX_PERFORMANCE), 0);
        assert_eq!(ecx & AMD_ECX_MULTI_CORE, AMD_ECX_MULTI_CORE);
        assert_eq!(find(&leaves, 0x8000_0008, 0)[2], 0xffff_3f05);
        assert_eq!(find(&leaves, 0x8000_001d, 0)[0], 0x0121);
        assert_eq!(find(&leaves, 0x8000_001d, 3)[0], 0x0001_4163);
        assert_eq!(find(&leaves, 0x8000_001e, 0), [3, 3, 0, 0]);
    }

    #[test]
    fn with_smt_each_two_processors_are_threads_of_a_core() {
        let host = [
            vendor(b"GenuineIntel", 0x1f),
            leaf(4, 0, [0xfc00_4121, 1, 2, 3]),
            leaf(4, 3, [0xfc0f_c163, 1, 2, 3]),
        ];
        let leaves = guest_on(&host, 3, 4, true);
        for function in TOPOLOGY_LEAVES {
            assert_eq!(find(&leaves, function, 0), [1, 2, 0x100, 3]);
            assert_eq!(find(&leaves, function, 1), [2, 4, 0x201, 3]);
        }
        assert_eq!(find(&leaves, 4, 0)[0], 0x0400_4121);
        assert_eq!(find(&leaves, 4, 3)[0], 0x0400_c163);
    }

    #[test]
    fn with_smt_an_amd_core_has_a_number_and_two_threads() {
        let host = [
            vendor(b"AuthenticAMD", 0x10),
            leaf(0x8000_001d, 0, [0x0000_4121, 0, 0, 0]),
            leaf(0x8000_001e, 0, [9, 0x0109, 0x0300, 0]),
        ];
        let leaves = guest_on(&host, 5, 6, true);
        assert_eq!(find(&leaves, 0x8000_001d, 0)[0], 0x4121);
        assert_eq!(find(&leaves, 0x8000_001e, 0), [5, 0x0102, 0, 0]);
    }

    #[test]
    fn a_single_processor_with_smt_is_a_core_of_its_own() {
        let leaves = guest_on(&[vendor(b"GenuineIntel", 0x1f)], 0, 1, true);
        assert_eq!(find(&leaves, 0xb, 0), [0, 1, 0x100, 0]);
    }

    #[test]
    fn intel_keeps_its_reserved_amd_fields() {
        let host = [
            vendor(b"GenuineIntel", 0x10),
            leaf(0x8000_0008, 0, [0x3027, 0, 0, 0]),
        ];
        assert_eq!(find(&guest(&host, 0, 4), 0x8000_0008, 0), [0x3027, 0, 0, 0]);
    }

    #[test]
    fn there_is_no_performance_monitoring_and_no_enclave() {
        let host = [
            leaf(0xa, 0, [1, 2, 3, 4]),
            leaf(7, 0, [2, u32::MAX, u32::MAX, 0]),
            leaf(7, 1, [0, 4, 0, 0]),
        ];
        let leaves = guest(&host, 0, 1);
        assert_eq!(find(&leaves, 0xa, 0), [0; 4]);
        assert_eq!(find(&leaves, 7, 0)[1] & EBX_SGX, 0);
        assert_eq!(find(&leaves, 7, 1)[1], 4);
    }
}

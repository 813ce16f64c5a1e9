//! Processor templates: changes to the features that KVM supports, before this machine's own.
//!
//! A template changes what KVM reports as supported; [`super::cpuid`] then makes that this machine's. So
//! a template that was taken from one vCPU gives no other vCPU its APIC id, and none brings back what the
//! machine hides. The registers of the boot protocol ([`super::msrs`]) are set after a template's, too.
//! Firecracker keeps both orders.
//!
//! The five named templates are Firecracker's: which bits each clears and sets is part of its interface.
//! What the bits mean: Intel SDM 2A, "CPUID"; AMD APM 3, appendix E; Intel SDM 4, table 2-2.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2, kvm_msr_entry};

use super::{ProcessorError, cpuid};
use crate::kvm::Vcpu;
use crate::spec::{
    Bitmap, CpuConfig, CpuFeatures, CpuTemplate, CpuidModifier, CpuidRegister, MsrModifier,
    RegisterModifier,
};

use CpuidRegister::{Eax, Ebx, Ecx, Edx};

const INTEL: &[u8; 12] = b"GenuineIntel";
const AMD: &[u8; 12] = b"AuthenticAMD";
/// Family, model and stepping of the first Cascade Lake, as leaf 1 tells them.
const CASCADE_LAKE: u32 = 0x5_0657;
/// The bits of leaf 1 that tell family, model and stepping.
const MODEL: u32 = 0x0fff_3fff;
/// Intel's `IA32_ARCH_CAPABILITIES`.
const ARCH_CAPABILITIES: u32 = 0x10a;

/// The changes that `features` ask for on a host with the leaves `supported`.
///
/// # Errors
/// A template that is for other processors.
pub(super) fn config(
    features: &CpuFeatures,
    supported: &[kvm_cpuid_entry2],
) -> Result<CpuConfig, ProcessorError> {
    match features {
        CpuFeatures::Host => Ok(CpuConfig::default()),
        CpuFeatures::Custom(config) => Ok(config.clone()),
        CpuFeatures::Template(template) => {
            fits(*template, supported)?;
            Ok(named(*template))
        }
    }
}

/// Changes the leaves as `config` asks for.
///
/// # Errors
/// A leaf that is not there.
pub(super) fn change_leaves(
    config: &CpuConfig,
    leaves: &mut [kvm_cpuid_entry2],
) -> Result<(), ProcessorError> {
    for change in &config.cpuid_modifiers {
        let leaf = leaves
            .iter_mut()
            .find(|leaf| (leaf.function, leaf.index) == (change.leaf, change.subleaf))
            .ok_or(ProcessorError::NoLeaf(change.leaf, change.subleaf))?;
        leaf.flags = change.flags;
        for modifier in &change.modifiers {
            let register = match modifier.register {
                Eax => &mut leaf.eax,
                Ebx => &mut leaf.ebx,
                Ecx => &mut leaf.ecx,
                Edx => &mut leaf.edx,
            };
            *register = modifier.bitmap.applied(*register);
        }
    }
    Ok(())
}

/// Changes the registers of `vcpu` as `config` asks for.
///
/// # Errors
/// A register that KVM does not know, or refuses to set so.
pub(super) fn change_msrs(config: &CpuConfig, vcpu: &Vcpu) -> Result<(), ProcessorError> {
    for change in &config.msr_modifiers {
        let index = change.addr;
        let value = vcpu.msr(index)?.ok_or(ProcessorError::NoMsr(index))?;
        let entry = kvm_msr_entry {
            index,
            data: change.bitmap.applied(value),
            ..Default::default()
        };
        if vcpu.set_msrs(&[entry]).is_err() {
            return Err(ProcessorError::MsrRefused(index, entry.data));
        }
    }
    Ok(())
}

/// Whether the host's processors are those that `template` is made for.
fn fits(template: CpuTemplate, supported: &[kvm_cpuid_entry2]) -> Result<(), ProcessorError> {
    let vendor = match template {
        CpuTemplate::None => return Ok(()),
        CpuTemplate::T2A => AMD,
        CpuTemplate::C3 | CpuTemplate::T2 | CpuTemplate::T2S | CpuTemplate::T2CL => INTEL,
    };
    if cpuid::vendor(supported) != Some(*vendor) {
        return Err(ProcessorError::OtherVendor(
            template,
            String::from_utf8_lossy(vendor).into_owned(),
        ));
    }
    let model = cpuid::find(supported, 1).map_or(0, |leaf| leaf.eax & MODEL);
    if template == CpuTemplate::T2CL && model < CASCADE_LAKE {
        return Err(ProcessorError::TooOld(template));
    }
    if template == CpuTemplate::C3 && model < CASCADE_LAKE {
        log::warn!(
            "the template C3 on a processor before Cascade Lake leaves a guest without the mitigation of stale data \
             from MMIO"
        );
    }
    Ok(())
}

/// A leaf and subleaf, a register of it, the bits to clear and the bits to set.
type Row = (u32, u32, CpuidRegister, u32, u32);

/// What the four that begin with T2 share.
const T2_ROWS: [Row; 8] = [
    // Family 6, model 63, stepping 2: Haswell.
    (0x1, 0, Eax, MODEL, 0x3_06f2),
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA.
    (0x1, 0, Ecx, 0x0004_cdfc, 0),
    // PSN, DS, ACPI, SS, TM, IA-64, PBE; MCE and MTRR are there.
    (0x1, 0, Edx, 0xe864_0000, 0x1080),
    // SGX, HLE, RTM, resource director, MPX, AVX-512, RDSEED, ADX, PCOMMIT, CLFLUSHOPT, CLWB, trace, SHA;
    // enhanced REP MOVSB is there.
    (0x7, 0, Ebx, 0xffef_d814, 0x200),
    // AVX-512, UMIP, protection keys, GFNI, VAES, VPCLMULQDQ, LA57, RDPID, SGX launch.
    (0x7, 0, Ecx, 0x4041_5f5e, 0),
    // AVX-512, fast short REP MOV.
    (0x7, 0, Edx, 0x11c, 0),
    // State of MPX, AVX-512 and protection keys.
    (0xd, 0, Eax, 0x2f8, 0),
    // XSAVEC, XGETBV with ecx 1, XSAVES.
    (0xd, 1, Eax, 0xe, 0),
];
/// T2 and T2S.
const T2_EXTENDED: [Row; 3] = [
    // PREFETCHW, MONITORX.
    (0x8000_0001, 0, Ecx, 0x2000_0100, 0),
    // Pages of 1 GiB.
    (0x8000_0001, 0, Edx, 0x0400_0000, 0),
    // WBNOINVD.
    (0x8000_0008, 0, Ebx, 0x200, 0),
];
const T2CL_EXTENDED: [Row; 3] = [
    // SSE4A, MisAlignSse, PREFETCHW, MONITORX.
    (0x8000_0001, 0, Ecx, 0x2000_01c0, 0),
    // MmxExt, MMX, FXSR, FFXSR, pages of 1 GiB: AMD's copies of them.
    (0x8000_0001, 0, Edx, 0x07c0_0000, 0),
    (0x8000_0008, 0, Ebx, 0x200, 0),
];
const T2A_EXTENDED: [Row; 3] = [
    // SVM as well.
    (0x8000_0001, 0, Ecx, 0x2000_01c4, 0),
    // MmxExt, FFXSR, pages of 1 GiB.
    (0x8000_0001, 0, Edx, 0x0640_0000, 0),
    // CLZERO, WBNOINVD; RstrFpErrPtrs, IbrsPreferred, IbrsSameMode and EferLmsleUnsupported are there.
    (0x8000_0008, 0, Ebx, 0x201, 0x001c_0004),
];
const C3_ROWS: [Row; 10] = [
    // Family 6, model 62, stepping 4: Ivy Bridge.
    (0x1, 0, Eax, MODEL, 0x3_06e4),
    // DTES64, MONITOR, DS-CPL, VMX, TM2, CNXT-ID, SDBG, FMA, xTPR, PDCM, MOVBE.
    (0x1, 0, Ecx, 0x0040_dd3c, 0),
    // As T2, but for IA-64.
    (0x1, 0, Edx, 0xa864_0000, 0x1080),
    // As T2, and BMI1, AVX2, BMI2, INVPCID; PCOMMIT and enhanced REP MOVSB as the host has them.
    (0x7, 0, Ebx, 0xffaf_dd3c, 0),
    (0x7, 0, Ecx, 0x4041_481e, 0),
    (0x7, 0, Edx, 0xc, 0),
    (0xd, 0, Eax, 0x2f8, 0),
    (0xd, 1, Eax, 0xe, 0),
    // LZCNT, PREFETCHW.
    (0x8000_0001, 0, Ecx, 0x120, 0),
    (0x8000_0001, 0, Edx, 0x0400_0000, 0),
];

/// The changes of a template by its name.
fn named(template: CpuTemplate) -> CpuConfig {
    let (rows, extended): (&[Row], &[Row]) = match template {
        CpuTemplate::None => (&[], &[]),
        CpuTemplate::C3 => (&C3_ROWS, &[]),
        CpuTemplate::T2 | CpuTemplate::T2S => (&T2_ROWS, &T2_EXTENDED),
        CpuTemplate::T2CL => (&T2_ROWS, &T2CL_EXTENDED),
        CpuTemplate::T2A => (&T2_ROWS, &T2A_EXTENDED),
    };
    // T2S tells what the weakest of its processors has; T2CL clears what is not about weaknesses.
    let arch_capabilities = match template {
        CpuTemplate::T2S => Some(Bitmap::new(u64::MAX, 0x0408_0c4c)),
        CpuTemplate::T2CL => Some(Bitmap::new(0xffff_ffff_e2f5_1e00, 0)),
        _ => None,
    };
    CpuConfig {
        kvm_capabilities: Vec::new(),
        cpuid_modifiers: rows.iter().chain(extended).map(modifier).collect(),
        msr_modifiers: arch_capabilities
            .map(|bitmap| MsrModifier {
                addr: ARCH_CAPABILITIES,
                bitmap,
            })
            .into_iter()
            .collect(),
    }
}

fn modifier(&(leaf, subleaf, register, clear, set): &Row) -> CpuidModifier {
    let has_subleaves = matches!(leaf, 0x7 | 0xd);
    CpuidModifier {
        leaf,
        subleaf,
        flags: if has_subleaves {
            KVM_CPUID_FLAG_SIGNIFCANT_INDEX
        } else {
            0
        },
        modifiers: vec![RegisterModifier {
            register,
            bitmap: Bitmap::new(clear.into(), set.into()),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The leaves that every template changes, all bits set, on a processor of `vendor` and `model`.
    fn host(vendor: &[u8; 12], model: u32) -> Vec<kvm_cpuid_entry2> {
        let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().unwrap());
        let all = u32::MAX;
        vec![
            leaf(0, 0, [0x1f, word(0), word(8), word(4)]),
            leaf(1, 0, [0xf000_c000 | model, all, all, all]),
            leaf(7, 0, [all; 4]),
            leaf(0xd, 0, [all; 4]),
            leaf(0xd, 1, [all; 4]),
            leaf(0x8000_0001, 0, [all; 4]),
            leaf(0x8000_0008, 0, [all; 4]),
        ]
    }

    fn guest(template: CpuTemplate, host: &[kvm_cpuid_entry2]) -> Vec<kvm_cpuid_entry2> {
        let config = config(&CpuFeatures::Template(template), host).unwrap();
        let mut leaves = host.to_vec();
        change_leaves(&config, &mut leaves).unwrap();
        leaves
    }

    fn registers(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
        let leaf = leaves
            .iter()
            .find(|leaf| (leaf.function, leaf.index) == (function, index))
            .unwrap();
        [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
    }

    #[test]
    fn t2_makes_a_haswell_without_avx_512() {
        let leaves = guest(CpuTemplate::T2, &host(INTEL, 0x8_06f8));
        let [eax, ebx, ecx, edx] = registers(&leaves, 1, 0);
        assert_eq!((eax, ebx), (0xf003_c6f2, u32::MAX));
        assert_eq!((ecx, edx), (!0x0004_cdfc, !0xe864_0000));
        let [_, ebx, ecx, edx] = registers(&leaves, 7, 0);
        assert_eq!((ebx, ecx, edx), (0x0010_27eb, !0x4041_5f5e, !0x11c));
        assert_eq!(registers(&leaves, 0xd, 0)[0], !0x2f8);
        assert_eq!(registers(&leaves, 0xd, 1)[0], !0xe);
        let [_, _, ecx, edx] = registers(&leaves, 0x8000_0001, 0);
        assert_eq!((ecx, edx), (!0x2000_0100, !0x0400_0000));
        assert_eq!(registers(&leaves, 0x8000_0008, 0)[1], !0x200);
    }

    #[test]
    fn bits_that_a_template_sets_are_set_on_a_host_without_them() {
        let mut bare = host(INTEL, 0x8_06f8);
        for leaf in bare.iter_mut().skip(2) {
            leaf.ebx = 0;
        }
        bare[1].edx = 0;
        let leaves = guest(CpuTemplate::T2, &bare);
        assert_eq!(registers(&leaves, 7, 0)[1], 0x200);
        assert_eq!(registers(&leaves, 1, 0)[3], 0x1080);
    }

    #[test]
    fn t2s_and_t2cl_differ_from_t2_in_what_they_say_of_weaknesses() {
        let [t2, t2s, t2cl] = [CpuTemplate::T2, CpuTemplate::T2S, CpuTemplate::T2CL].map(named);
        assert!(t2.msr_modifiers.is_empty());
        assert_eq!(t2.cpuid_modifiers, t2s.cpuid_modifiers);
        assert_eq!(t2s.msr_modifiers[0].addr, 0x10a);
        assert_eq!(t2s.msr_modifiers[0].bitmap.applied(u64::MAX), 0x0408_0c4c);
        let safe = t2cl.msr_modifiers[0].bitmap.applied(u64::MAX);
        assert_eq!(safe, 0x1d0a_e1ff);
    }

    #[test]
    fn t2a_is_for_amd_and_the_others_are_for_intel() {
        let (intel, amd) = (host(INTEL, 0x8_06f8), host(AMD, 0x00a0_0f11));
        let fits_on = |template, host: &[_]| fits(template, host).is_ok();
        assert!(fits_on(CpuTemplate::T2A, &amd));
        assert!(!fits_on(CpuTemplate::T2A, &intel));
        for template in [
            CpuTemplate::C3,
            CpuTemplate::T2,
            CpuTemplate::T2S,
            CpuTemplate::T2CL,
        ] {
            assert!(fits_on(template, &intel), "{template}");
            let error = fits(template, &amd).unwrap_err();
            assert!(matches!(error, ProcessorError::OtherVendor(..)), "{error}");
        }
        assert!(fits_on(CpuTemplate::None, &[]));
    }

    #[test]
    fn t2a_sets_what_milan_has() {
        let leaves = guest(CpuTemplate::T2A, &host(AMD, 0x00a0_0f11));
        assert_eq!(registers(&leaves, 0x8000_0001, 0)[2], !0x2000_01c4);
        assert_eq!(registers(&leaves, 0x8000_0008, 0)[1], !0x201);
    }

    #[test]
    fn t2cl_needs_a_cascade_lake() {
        let skylake = host(INTEL, 0x5_0654);
        assert!(matches!(
            fits(CpuTemplate::T2CL, &skylake),
            Err(ProcessorError::TooOld(CpuTemplate::T2CL))
        ));
        assert!(fits(CpuTemplate::T2CL, &host(INTEL, 0x5_0657)).is_ok());
        assert!(fits(CpuTemplate::C3, &skylake).is_ok());
    }

    #[test]
    fn c3_makes_an_ivy_bridge() {
        let leaves = guest(CpuTemplate::C3, &host(INTEL, 0x8_06f8));
        assert_eq!(registers(&leaves, 1, 0)[0], 0xf003_c6e4);
        assert_eq!(registers(&leaves, 7, 0)[1], !0xffaf_dd3c);
        assert_eq!(registers(&leaves, 0x8000_0001, 0)[2], !0x120);
        assert_eq!(registers(&leaves, 0x8000_0008, 0), [u32::MAX; 4]);
    }

    #[test]
    fn a_leaf_that_is_not_there_is_named() {
        let mut leaves = host(INTEL, 0x8_06f8);
        let config: CpuConfig = serde_json::from_value(serde_json::json!({
            "cpuid_modifiers": [
                { "leaf": "0x7", "subleaf": "0x3", "flags": 1, "modifiers": [] },
            ],
        }))
        .unwrap();
        let error = change_leaves(&config, &mut leaves).unwrap_err();
        assert!(matches!(error, ProcessorError::NoLeaf(7, 3)), "{error}");
    }

    #[test]
    fn a_register_may_change_twice_and_the_flags_are_replaced() {
        let mut leaves = host(INTEL, 0x8_06f8);
        let config: CpuConfig = serde_json::from_value(serde_json::json!({
            "cpuid_modifiers": [{
                "leaf": "0x7", "subleaf": "0x0", "flags": 1,
                "modifiers": [
                    { "register": "eax", "bitmap": "0b000" },
                    { "register": "eax", "bitmap": "0b1x" },
                ],
            }],
        }))
        .unwrap();
        change_leaves(&config, &mut leaves).unwrap();
        assert_eq!(registers(&leaves, 7, 0)[0], 0xffff_fffa);
        assert_eq!(leaves[2].flags, 1);
    }
}

//! What a user may change about the processors, in the notation of Firecracker's processor templates.
//!
//! | what | how it is written |
//! | --- | --- |
//! | leaf, subleaf, address of a register | a string: `0x` and hexadecimal digits, or `0b` and binary ones |
//! | bits of a register | a string, highest bit first: `0` clears, `1` sets, `x` leaves; `0b` before and `_` anywhere may be there; bits that are not written are left |
//! | capability of KVM | a string: a decimal number that is required, or `!` and one that is not |

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Changes to what the guest sees of its processors (`PUT /cpu-config`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CpuConfig {
    /// What this host's KVM must have, or need not have.
    #[serde(default)]
    pub kvm_capabilities: Vec<KvmCapability>,
    /// Changes to what the `CPUID` instruction tells.
    #[serde(default)]
    pub cpuid_modifiers: Vec<CpuidModifier>,
    /// Changes to model-specific registers.
    #[serde(default)]
    pub msr_modifiers: Vec<MsrModifier>,
}

/// A set of processor features that several models have (`cpu_template` of the machine's configuration).
///
/// The names are Firecracker's on x86-64; it calls them after machines of its maker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CpuTemplate {
    /// Intel: what Ivy Bridge has.
    C3,
    /// Intel: what Haswell and later servers have in common.
    T2,
    /// Intel: as [`Self::T2`], with the security features of Skylake.
    T2S,
    /// What the host has.
    #[default]
    None,
    /// Intel, Cascade Lake and later: as [`Self::T2`], with mitigations that Cascade Lake needs not.
    T2CL,
    /// AMD: what is nearest to [`Self::T2CL`].
    T2A,
}

impl fmt::Display for CpuTemplate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, to)
    }
}

/// The processor features of a machine. Firecracker keeps one of a name and a list of changes: the later of
/// the two that it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CpuFeatures {
    /// What the host has.
    #[default]
    Host,
    /// What several models have.
    Template(CpuTemplate),
    /// What a user chose.
    Custom(CpuConfig),
}

impl CpuFeatures {
    /// What a user asks of KVM.
    pub fn kvm_capabilities(&self) -> &[KvmCapability] {
        match self {
            Self::Custom(config) => &config.kvm_capabilities,
            Self::Host | Self::Template(_) => &[],
        }
    }
}

/// A capability of KVM by its number (`KVM_CAP_...` in `linux/kvm.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^!?[0-9]{1,9}$")))]
#[serde(try_from = "String", into = "String")]
pub enum KvmCapability {
    /// The machine is refused without it.
    Required(u32),
    /// The machine is built without it too, if it can be.
    NotRequired(u32),
}

/// A change to one leaf of what `CPUID` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CpuidModifier {
    /// The leaf: what is in `eax` at the instruction.
    #[serde(with = "prefixed")]
    #[cfg_attr(feature = "schema", schemars(with = "prefixed::Number"))]
    pub leaf: u32,
    /// The subleaf: what is in `ecx`.
    #[serde(with = "prefixed")]
    #[cfg_attr(feature = "schema", schemars(with = "prefixed::Number"))]
    pub subleaf: u32,
    /// The leaf's flags afterwards (KVM `api.rst`, `KVM_SET_CPUID2`).
    pub flags: u32,
    /// What changes.
    pub modifiers: Vec<RegisterModifier>,
}

/// A change to one register of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterModifier {
    /// The register.
    pub register: CpuidRegister,
    /// The change.
    pub bitmap: Bitmap<32>,
}

/// A register that `CPUID` fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CpuidRegister {
    /// The first.
    Eax,
    /// The second.
    Ebx,
    /// The third.
    Ecx,
    /// The fourth.
    Edx,
}

/// A change to a model-specific register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MsrModifier {
    /// The register's number.
    #[serde(with = "prefixed")]
    #[cfg_attr(feature = "schema", schemars(with = "prefixed::Number"))]
    pub addr: u32,
    /// The change.
    pub bitmap: Bitmap<64>,
}

/// Bits of a register of `WIDTH` bits to clear and to set; the others stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Bitmap{WIDTH}", extend("pattern" = format!("^(0b)?_*([01x]_*){{0,{WIDTH}}}$"))))]
#[serde(try_from = "String", into = "String")]
pub struct Bitmap<const WIDTH: u32> {
    /// The bits that change.
    mask: u64,
    /// What they change to; a part of `mask`.
    value: u64,
}

/// A notation that was not understood: what was written, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// A letter in a bitmap.
    #[error("the bitmap `{bitmap}` has the character `{character}`: write 0, 1, x and _ only")]
    BitmapCharacter {
        /// What was written.
        bitmap: String,
        /// The first that is none of the four.
        character: char,
    },
    /// More bits than the register has.
    #[error("the bitmap `{bitmap}` has more than the register's {width} bits: shorten it")]
    BitmapTooLong {
        /// What was written.
        bitmap: String,
        /// How many there are.
        width: u32,
    },
    /// Neither `0x` nor `0b`.
    #[error(
        "the number `{0}` has no prefix: write 0x before hexadecimal digits or 0b before binary ones"
    )]
    NoPrefix(String),
    /// Not the digits of a 32-bit number.
    #[error(
        "the number `{0}` is not one of 32 bits: write digits that its prefix allows, 0xffffffff at most"
    )]
    Number(String),
    /// Not a capability.
    #[error(
        "the KVM capability `{0}` is not a number: write its decimal number, with ! before one that \
         is not required"
    )]
    Capability(String),
}

impl<const WIDTH: u32> Bitmap<WIDTH> {
    /// Clears the bits of `clear` and sets those of `set`, which wins where both have one.
    pub const fn new(clear: u64, set: u64) -> Self {
        Self {
            mask: clear | set,
            value: set,
        }
    }

    fn apply(self, register: u64) -> u64 {
        (register & !self.mask) | self.value
    }
}

impl Bitmap<32> {
    /// The register with the change.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "neither a 32-bit register nor a bitmap of 32 bits has a bit above"
    )]
    pub fn applied(self, register: u32) -> u32 {
        self.apply(register.into()) as u32
    }
}

impl Bitmap<64> {
    /// The register with the change.
    pub fn applied(self, register: u64) -> u64 {
        self.apply(register)
    }
}

impl<const WIDTH: u32> TryFrom<String> for Bitmap<WIDTH> {
    type Error = NotationError;

    fn try_from(bitmap: String) -> Result<Self, NotationError> {
        let digits = bitmap.strip_prefix("0b").unwrap_or(&bitmap);
        let (mut mask, mut value) = (0, 0);
        let written = digits.chars().rev().filter(|digit| *digit != '_');
        for (bit, character) in (0..).zip(written) {
            if bit == WIDTH {
                return Err(NotationError::BitmapTooLong {
                    bitmap,
                    width: WIDTH,
                });
            }
            let (changes, to) = match character {
                'x' => (0, 0),
                '0' => (1, 0),
                '1' => (1, 1),
                _ => return Err(NotationError::BitmapCharacter { bitmap, character }),
            };
            mask |= changes << bit;
            value |= to << bit;
        }
        Ok(Self { mask, value })
    }
}

impl<const WIDTH: u32> From<Bitmap<WIDTH>> for String {
    fn from(bitmap: Bitmap<WIDTH>) -> Self {
        let digit = |bit: u32| match (bitmap.mask >> bit & 1, bitmap.value >> bit & 1) {
            (0, _) => 'x',
            (_, 0) => '0',
            _ => '1',
        };
        "0b".chars().chain((0..WIDTH).rev().map(digit)).collect()
    }
}

impl TryFrom<String> for KvmCapability {
    type Error = NotationError;

    fn try_from(text: String) -> Result<Self, NotationError> {
        let (digits, kind): (_, fn(u32) -> Self) = match text.strip_prefix('!') {
            Some(digits) => (digits, Self::NotRequired),
            None => (text.as_str(), Self::Required),
        };
        match digits.parse() {
            Ok(number) => Ok(kind(number)),
            Err(_) => Err(NotationError::Capability(text)),
        }
    }
}

impl From<KvmCapability> for String {
    fn from(capability: KvmCapability) -> Self {
        match capability {
            KvmCapability::Required(number) => number.to_string(),
            KvmCapability::NotRequired(number) => format!("!{number}"),
        }
    }
}

/// Numbers as strings with a prefix.
mod prefixed {
    use super::*;

    pub(super) fn serialize<S: Serializer>(number: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{number:#x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }

    /// The schema of such a string.
    #[cfg(feature = "schema")]
    #[derive(schemars::JsonSchema)]
    #[schemars(
        transparent,
        inline,
        extend("pattern" = "^(0x[0-9A-Fa-f]{1,8}|0b[01]{1,32})$")
    )]
    pub(super) struct Number(#[expect(dead_code, reason = "only its schema is used")] String);

    fn parse(text: &str) -> Result<u32, NotationError> {
        let (digits, radix) = match (text.strip_prefix("0x"), text.strip_prefix("0b")) {
            (Some(digits), _) => (digits, 16),
            (None, Some(digits)) => (digits, 2),
            (None, None) => return Err(NotationError::NoPrefix(text.to_owned())),
        };
        u32::from_str_radix(digits, radix).map_err(|_| NotationError::Number(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    fn bitmap(text: &str) -> Result<Bitmap<32>, NotationError> {
        text.to_owned().try_into()
    }

    fn config(value: serde_json::Value) -> Result<CpuConfig, String> {
        from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bitmap_clears_sets_and_leaves_bits() {
        let table = [
            ("0b1x0", 0b010, 0b110),
            ("1x0", 0b111, 0b110),
            ("0b_1__x_0_", 0b011, 0b110),
            ("", 7, 7),
            ("0b", 7, 7),
            ("1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 1, 0x8000_0001),
            ("0b00000000000000000000000000000000", u32::MAX, 0),
        ];
        for (text, before, after) in table {
            assert_eq!(bitmap(text).unwrap().applied(before), after, "{text}");
        }
    }

    #[test]
    fn a_bitmap_of_64_bits_reaches_the_highest() {
        let text = format!("0b1{}0", "x".repeat(62));
        let bitmap = Bitmap::<64>::try_from(text).unwrap();
        assert_eq!(bitmap.applied(1), 1 << 63);
    }

    #[test]
    fn a_bitmap_with_a_foreign_character_or_a_bit_too_many_is_refused() {
        let character = bitmap("0b01y").unwrap_err();
        assert!(matches!(
            character,
            NotationError::BitmapCharacter { character: 'y', .. }
        ));
        assert!(bitmap("0X11").is_err());
        assert!(bitmap("0b\u{3fd}1").is_err());
        let long = bitmap(&"x".repeat(33)).unwrap_err();
        assert!(matches!(
            long,
            NotationError::BitmapTooLong { width: 32, .. }
        ));
    }

    #[test]
    fn a_configuration_is_written_as_it_was_read() {
        let value = json!({
            "kvm_capabilities": ["171", "!56"],
            "cpuid_modifiers": [{
                "leaf": "0x80000001",
                "subleaf": "0x0",
                "flags": 1,
                "modifiers": [
                    { "register": "eax", "bitmap": "0b0000111100001111000011110000xx01" },
                    { "register": "edx", "bitmap": "0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1" },
                ],
            }],
            "msr_modifiers": [{ "addr": "0x10a", "bitmap": format!("0b{}10", "x".repeat(62)) }],
        });
        let config = config(value.clone()).unwrap();
        assert_eq!(config.cpuid_modifiers[0].leaf, 0x8000_0001);
        assert_eq!(config.kvm_capabilities[1], KvmCapability::NotRequired(56));
        assert_eq!(to_value(config).unwrap(), value);
    }

    #[test]
    fn an_empty_configuration_changes_nothing_and_shows_every_list() {
        let empty = config(json!({})).unwrap();
        assert_eq!(empty, CpuConfig::default());
        let shown = to_value(empty).unwrap();
        let lists = ["kvm_capabilities", "cpuid_modifiers", "msr_modifiers"];
        for list in lists {
            assert_eq!(shown[list], json!([]), "{list}");
        }
    }

    #[test]
    fn numbers_are_hexadecimal_or_binary_with_a_prefix() {
        let msr = |addr: &str| {
            config(json!({ "msr_modifiers": [{ "addr": addr, "bitmap": "1" }] }))
                .map(|config| config.msr_modifiers[0].addr)
        };
        assert_eq!(msr("0x10A"), Ok(0x10a));
        assert_eq!(msr("0b101"), Ok(5));
        assert!(msr("266").unwrap_err().contains("no prefix"));
        for wrong in ["0xzz", "0b2", "0x", "0x100000000"] {
            assert!(msr(wrong).unwrap_err().contains("32 bits"), "{wrong}");
        }
    }

    #[test]
    fn capabilities_are_decimal_numbers() {
        for wrong in ["", "!", "0x10", "-1", "!!3", "4294967296"] {
            let error = config(json!({ "kvm_capabilities": [wrong] })).unwrap_err();
            assert!(error.contains("is not a number"), "{wrong}: {error}");
        }
        assert!(config(json!({ "kvm_capabilities": [171] })).is_err());
    }

    #[test]
    fn a_register_that_cpuid_does_not_fill_is_refused() {
        let error = config(json!({ "cpuid_modifiers": [{
            "leaf": "0x1", "subleaf": "0x0", "flags": 0,
            "modifiers": [{ "register": "ekx", "bitmap": "1" }],
        }] }))
        .unwrap_err();
        assert!(error.contains("unknown variant `ekx`"), "{error}");
    }

    #[test]
    fn what_only_aarch64_has_is_refused_even_when_empty() {
        for key in ["reg_modifiers", "vcpu_features"] {
            let error = config(json!({ key: [] })).unwrap_err();
            assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
        }
    }

    #[test]
    fn the_templates_of_x86_have_names_and_those_of_aarch64_do_not() {
        for name in ["C3", "T2", "T2S", "None", "T2CL", "T2A"] {
            let template: CpuTemplate = from_value(json!(name)).unwrap();
            assert_eq!(to_value(template).unwrap(), json!(name));
            assert_eq!(template.to_string(), name);
        }
        let error = from_value::<CpuTemplate>(json!("V1N1")).unwrap_err();
        assert!(error.to_string().contains("unknown variant `V1N1`"));
    }
}

//! The list of devices of a cgroup of version 2: a small program that the kernel asks at each open and mknod.
//!
//! A monitor opens no device, so the usual program denies them all. What the user allows in the words of version 1
//! (`devices.allow`, Linux `Documentation/admin-guide/cgroup-v1/devices.rst`) is tried before.

use std::io;
use std::path::Path;

use super::bpf::{self, Instruction};
use super::tree::Cgroup;
use crate::jail::error::JailError;

/// The file of version 1, and the word on the command line.
pub(super) const ALLOW: &str = "devices.allow";

/// Devices that may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    /// 1 for a block device, 2 for one of characters (`enum BPF_DEVCG_DEV_*`); `None`: either.
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    /// What may be done: 1 to make it, 2 to read, 4 to write (`BPF_DEVCG_ACC_*`).
    access: i32,
}

/// Everything that can be done.
const ALL: i32 = 7;
// Registers: the answer, what the kernel has asked, and parts of it.
const ANSWER: u8 = 0;
const ASKED: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
// Codes (Linux `Documentation/bpf/standardization/instruction-set.rst`).
const LOAD_WORD: u8 = 0x61;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The program that allows no device.
const NONE: [Instruction; 2] = [step(SET, ANSWER, 0), step(EXIT, 0, 0)];

/// Attaches the list to a cgroup: no device but those allowed. False where this kernel has no such lists, or this
/// user may not make them.
///
/// # Errors
/// A device that is none ([`JailError::Device`]), or what else the kernel refuses.
pub(super) fn attach<'a>(
    cgroup: &Cgroup,
    allowed: impl Iterator<Item = &'a str>,
) -> Result<bool, JailError> {
    let rules: Vec<Rule> = allowed.map(rule).collect::<Result<_, _>>()?;
    match bpf::attach(cgroup.directory(), &program(&rules)) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::EINVAL | libc::ENOSYS) => Ok(false),
            _ => Err(JailError::Wall("cgroup", error)),
        },
    }
}

/// Whether the programs at a cgroup deny every device: the number of the one that does, or `None` and how many there
/// are that may allow some.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn denied_by(cgroup: &Path) -> io::Result<(Option<u32>, usize)> {
    let cgroup = Cgroup::root(cgroup).map_err(io::Error::other)?;
    let programs = bpf::attached(cgroup.directory())?;
    let denying = programs.iter().find(|(_, code)| code == &NONE);
    Ok((denying.map(|(id, _)| *id), programs.len()))
}

/// A line of version 1: `TYPE MAJOR:MINOR ACCESS`, or `a` for all.
fn rule(line: &str) -> Result<Rule, JailError> {
    let wrong = || JailError::Device(line.to_owned());
    let mut words = line.split_whitespace();
    let kind = match words.next().ok_or_else(wrong)? {
        "a" => None,
        "b" => Some(1),
        "c" => Some(2),
        _ => return Err(wrong()),
    };
    let Some(numbers) = words.next() else {
        let all = Rule {
            kind,
            major: None,
            minor: None,
            access: ALL,
        };
        return kind.map_or(Ok(all), |_| Err(wrong()));
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        _ => text.parse::<u16>().map(|number| Some(number.into())),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let access = words.next().ok_or_else(wrong)?;
    let access = access.chars().try_fold(0, |bits, letter| match letter {
        'm' => Ok(bits | 1),
        'r' => Ok(bits | 2),
        'w' => Ok(bits | 4),
        _ => Err(wrong()),
    })?;
    match words.next() {
        None if (1..=ALL).contains(&access) => Ok(Rule {
            kind,
            major: number(major).map_err(|_| wrong())?,
            minor: number(minor).map_err(|_| wrong())?,
            access,
        }),
        _ => Err(wrong()),
    }
}

/// The program of a list. The kernel asks with `struct bpf_cgroup_dev_ctx`: access and type in one word, then major,
/// then minor.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = Vec::new();
    if !rules.is_empty() {
        code.extend([
            load(ACCESS, 0),
            copy(KIND, ACCESS),
            step(AND, KIND, 0xffff),
            step(SHIFT_RIGHT, ACCESS, 16),
            load(MAJOR, 4),
            load(MINOR, 8),
        ]);
    }
    for rule in rules {
        // What is asked beyond what this rule allows.
        let mut tests = vec![copy(ANSWER, ACCESS), step(AND, ANSWER, ALL & !rule.access)];
        tests.push(step(JUMP_UNLESS_EQUAL, ANSWER, 0));
        let parts = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
        let wanted = parts
            .iter()
            .filter_map(|(part, value)| Some((*part, (*value)?)));
        tests.extend(wanted.map(|(part, value)| step(JUMP_UNLESS_EQUAL, part, value)));
        tests.extend([step(SET, ANSWER, 1), step(EXIT, 0, 0)]);
        // One that does not hold goes on behind this rule.
        let end = tests.len();
        for (index, test) in tests.iter_mut().enumerate() {
            if test.code == JUMP_UNLESS_EQUAL {
                test.offset = i16::try_from(end - index - 1).unwrap_or(i16::MAX);
            }
        }
        code.append(&mut tests);
    }
    code.extend(NONE);
    code
}

const fn step(code: u8, register: u8, value: i32) -> Instruction {
    Instruction {
        code,
        registers: register,
        offset: 0,
        value,
    }
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction {
        offset,
        ..step(LOAD_WORD, register | ASKED << 4, 0)
    }
}

fn copy(to: u8, from: u8) -> Instruction {
    step(COPY, to | from << 4, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a program: whether it allows.
    fn ask(code: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_i64; 6];
        let mut at = 0_usize;
        loop {
            let step = code[at];
            let (to, from) = (step.registers & 15, step.registers >> 4);
            at += 1;
            let value = i64::from(step.value);
            let place = usize::try_from(step.offset).unwrap();
            let from = registers[usize::from(from)];
            let to = &mut registers[usize::from(to)];
            match step.code {
                LOAD_WORD => *to = context[place / 4].into(),
                COPY => *to = from,
                SET => *to = value,
                AND => *to &= value,
                SHIFT_RIGHT => *to >>= value,
                JUMP_UNLESS_EQUAL if *to != value => at += place,
                JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0] != 0,
                code => panic!("no instruction: {code:x}"),
            }
        }
    }

    fn list(lines: &[&str]) -> Vec<Instruction> {
        let rules: Vec<_> = lines.iter().map(|line| rule(line).unwrap()).collect();
        program(&rules)
    }

    #[test]
    fn without_a_rule_no_device_is_allowed() {
        assert_eq!(list(&[]), NONE);
        assert!(!ask(&NONE, 2, 2, 10, 232));
    }

    #[test]
    fn a_rule_allows_its_device_and_no_more() {
        let code = list(&["c 10:232 rw", "b 8:* r"]);
        assert!(ask(&code, 2, 2, 10, 232) && ask(&code, 2, 6, 10, 232));
        assert!(!ask(&code, 2, 1, 10, 232), "to make it is not allowed");
        assert!(!ask(&code, 2, 3, 10, 232), "nor that and more");
        assert!(!ask(&code, 1, 2, 10, 232), "nor the block device");
        assert!(!ask(&code, 2, 2, 10, 233));
        assert!(ask(&code, 1, 2, 8, 17) && !ask(&code, 1, 4, 8, 17));
    }

    #[test]
    fn all_devices_are_a_word() {
        let code = list(&["a"]);
        assert!(ask(&code, 1, 7, 8, 0) && ask(&code, 2, 7, 1, 3));
        assert!(ask(&list(&["a *:* rwm"]), 2, 7, 1, 3));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for line in [
            "",
            "c",
            "d 1:3 r",
            "c 1 r",
            "c 1:3",
            "c 1:3 x",
            "c x:3 r",
            "c 1:3 rw m",
            "c 70000:1 r",
        ] {
            assert!(rule(line).is_err(), "{line}");
        }
    }
}

//! Which devices a container may use: a BPF program of its cgroup (BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! The program gets `{access << 16 | type, major, minor}`. For each kind of access that is asked for it goes through the
//! rules from the last to the first; the first that fits decides, and where none does the access is refused.

use std::io;

use crate::raw::Instruction;
use crate::spec::{Device, DeviceRule};

/// Every container may make any device, and use these (as other runtimes have it).
const DEFAULT: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];
/// The most rules: a jump of the program is to reach its end.
const MOST: usize = 512;

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

// Instructions (linux/bpf.h): class, source and operation.
const LOAD_WORD: u8 = 0x61;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_IF_NOT: u8 = 0x55;
const JUMP_UNLESS_BITS: u8 = 0x45;
const EXIT: u8 = 0x95;

// Registers: the answer, what is given, and what is made of it.
const ANSWER: u8 = 0;
const GIVEN: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// A rule in the kernel's words.
struct Rule {
    allow: bool,
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

/// The program for some rules and the devices that a container asks for; none if all may be used.
pub(super) fn program(
    rules: &[DeviceRule],
    asked: &[Device],
) -> io::Result<Option<Vec<Instruction>>> {
    let mut all: Vec<Rule> = rules.iter().map(rule).collect::<io::Result<_>>()?;
    let is_all = |rule: &Rule| {
        rule.allow
            && rule.kind.is_none()
            && rule.major.is_none()
            && rule.minor.is_none()
            && rule.access == MAKE | READ | WRITE
    };
    if all.last().is_some_and(is_all) {
        return Ok(None);
    }
    all.extend(defaults());
    all.extend(asked.iter().filter_map(of_device));
    if all.len() > MOST {
        return Err(io::Error::other(format!(
            "there are {} rules for devices and at most {MOST} were expected",
            all.len()
        )));
    }
    Ok(Some(assemble(&all)))
}

fn defaults() -> impl Iterator<Item = Rule> {
    let make = [BLOCK, CHARACTER].map(|kind| Rule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        access: MAKE,
    });
    let usual = DEFAULT.map(|(major, minor)| Rule {
        allow: true,
        kind: Some(CHARACTER),
        major: Some(major),
        minor,
        access: MAKE | READ | WRITE,
    });
    make.into_iter().chain(usual)
}

fn of_device(device: &Device) -> Option<Rule> {
    let kind = match device.kind.as_str() {
        "b" => BLOCK,
        "c" | "u" => CHARACTER,
        _ => return None,
    };
    Some(Rule {
        allow: true,
        kind: Some(kind),
        major: Some(device.major),
        minor: Some(device.minor),
        access: MAKE | READ | WRITE,
    })
}

fn rule(rule: &DeviceRule) -> io::Result<Rule> {
    let bad = |what: String| Err(io::Error::other(format!("a rule for devices has {what}")));
    let kind = match rule.kind.as_deref().unwrap_or("a") {
        "a" | "" => None,
        "b" => Some(BLOCK),
        "c" | "u" => Some(CHARACTER),
        other => return bad(format!("the type '{other}' and a, b or c was expected")),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some),
    };
    let (Ok(major), Ok(minor)) = (number(rule.major), number(rule.minor)) else {
        return bad("a number that no device has".into());
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            other => return bad(format!("the access '{other}' and r, w or m was expected")),
        };
    }
    Ok(Rule {
        allow: rule.allow,
        kind,
        major,
        minor,
        access: if access == 0 {
            MAKE | READ | WRITE
        } else {
            access
        },
    })
}

fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        load(KIND, 0),
        instruction(COPY, ACCESS | KIND << 4, 0, 0),
        instruction(AND, KIND, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for bit in [MAKE, READ, WRITE] {
        let block = decide(rules, bit);
        // Not asked for: to the next.
        code.push(instruction(JUMP_UNLESS_BITS, ACCESS, 1, bit));
        code.push(jump(block.len()));
        code.extend(block);
    }
    code.push(instruction(SET, ANSWER, 0, 1));
    code.push(instruction(EXIT, 0, 0, 0));
    code
}

/// Comes to its end if a kind of access is allowed, and else leaves the program.
fn decide(rules: &[Rule], bit: u32) -> Vec<Instruction> {
    // From the end, since how far it is to there must be known.
    let mut code: Vec<Instruction> = refuse().into();
    let mut pieces = Vec::new();
    for rule in rules.iter().filter(|rule| rule.access & bit != 0) {
        let answer: Vec<Instruction> = if rule.allow {
            vec![jump(code.len())]
        } else {
            refuse().into()
        };
        pieces.clear();
        let tests = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
        let tests: Vec<(u8, u32)> = tests
            .into_iter()
            .filter_map(|(register, value)| Some((register, value?)))
            .collect();
        if tests.is_empty() {
            // It fits everything: nothing gets behind it, and the kernel refuses a program with what nobody reaches.
            code = if rule.allow {
                Vec::new()
            } else {
                refuse().into()
            };
            continue;
        }
        for (place, (register, value)) in tests.iter().enumerate() {
            // Over the tests that are left, and the answer.
            let over = tests.len() - place - 1 + answer.len();
            pieces.push(instruction(JUMP_IF_NOT, *register, short(over), *value));
        }
        pieces.extend(answer);
        code.splice(0..0, pieces.drain(..));
    }
    code
}

fn refuse() -> [Instruction; 2] {
    [instruction(SET, ANSWER, 0, 0), instruction(EXIT, 0, 0, 0)]
}

fn load(register: u8, offset: i16) -> Instruction {
    instruction(LOAD_WORD, register | GIVEN << 4, offset, 0)
}

fn jump(over: usize) -> Instruction {
    instruction(JUMP, 0, short(over), 0)
}

fn short(number: usize) -> i16 {
    i16::try_from(number).expect("a program of so few rules is short")
}

fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate: immediate.cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, by a machine of the few instructions that it has.
    fn ask(code: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let given = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0;
        for _ in 0..100_000 {
            let now = code[at];
            let (to, from) = (now.registers & 15, now.registers >> 4);
            let (to, from) = (usize::from(to), usize::from(from));
            let value = now.immediate.cast_unsigned();
            let over = usize::try_from(now.offset).unwrap();
            at += 1;
            match now.code {
                LOAD_WORD => registers[to] = given[over / 4],
                SET => registers[to] = value,
                COPY => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP => at += over,
                JUMP_IF_NOT if registers[to] != value => at += over,
                JUMP_UNLESS_BITS if registers[to] & value != 0 => at += over,
                EXIT => return registers[0] != 0,
                _ => {}
            }
        }
        panic!("it does not end");
    }

    fn allowed(rules: &str, kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let rules: Vec<DeviceRule> = serde_json::from_str(rules).unwrap();
        match program(&rules, &[]).unwrap() {
            None => true,
            Some(code) => ask(&code, kind, access, major, minor),
        }
    }

    const NONE: &str = r#"[{"allow": false, "access": "rwm"}]"#;

    #[test]
    fn the_usual_devices_are_allowed_and_disks_are_not() {
        for rules in [NONE, "[]"] {
            assert!(allowed(rules, CHARACTER, READ | WRITE, 1, 3));
            assert!(allowed(rules, CHARACTER, READ | WRITE, 136, 12));
            assert!(allowed(rules, BLOCK, MAKE, 254, 0));
            assert!(!allowed(rules, BLOCK, READ, 254, 0));
            assert!(!allowed(rules, CHARACTER, READ, 1, 1));
        }
    }

    #[test]
    fn each_kind_of_access_is_asked_for_itself() {
        let rules = r#"[{"allow": false}, {"allow": true, "type": "b", "major": 7, "minor": 1, "access": "r"}]"#;
        assert!(allowed(rules, BLOCK, READ, 7, 1));
        assert!(!allowed(rules, BLOCK, READ | WRITE, 7, 1));
        assert!(!allowed(rules, CHARACTER, READ, 7, 1));
        assert!(!allowed(rules, BLOCK, READ, 7, 2));
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let rules = r#"[{"allow": true, "type": "b", "major": 7}, {"allow": false, "type": "b", "major": 7, "minor": 3}]"#;
        assert!(allowed(rules, BLOCK, READ, 7, 2));
        assert!(!allowed(rules, BLOCK, READ, 7, 3));
    }

    /// Whether each instruction is reached by some way: the kernel refuses a program otherwise (EINVAL).
    fn is_whole(code: &[Instruction]) -> bool {
        let mut reached = vec![false; code.len()];
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            let over = at + 1 + usize::try_from(code[at].offset).unwrap_or_default();
            match code[at].code {
                EXIT => {}
                JUMP => open.push(over),
                JUMP_IF_NOT | JUMP_UNLESS_BITS => open.extend([at + 1, over]),
                _ => open.push(at + 1),
            }
        }
        reached.iter().all(|is_reached| *is_reached)
    }

    #[test]
    fn no_instruction_is_out_of_reach() {
        for rules in [
            "[]",
            NONE,
            r#"[{"allow": false}, {"allow": true, "type": "b", "major": 7, "access": "r"}]"#,
            r#"[{"allow": true, "type": "b"}, {"allow": true, "access": "m"}, {"allow": true, "type": "c"}]"#,
        ] {
            let rules: Vec<DeviceRule> = serde_json::from_str(rules).unwrap();
            assert!(is_whole(&program(&rules, &[]).unwrap().unwrap()));
        }
    }

    #[test]
    fn the_kernel_takes_the_program() {
        use rustix::io::Errno;
        for rules in [
            NONE,
            "[]",
            r#"[{"allow": true, "type": "b", "access": "r"}]"#,
        ] {
            let rules: Vec<DeviceRule> = serde_json::from_str(rules).unwrap();
            let code = program(&rules, &[]).unwrap().unwrap();
            match crate::raw::load_device_program(&code) {
                Ok(_) => {}
                Err(error @ (Errno::PERM | Errno::NOSYS)) => {
                    eprintln!("SKIPPED: this kernel lets nobody load programs: {error}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn whoever_may_use_all_has_no_program() {
        let rules: Vec<DeviceRule> =
            serde_json::from_str(r#"[{"allow": true, "access": "rwm"}]"#).unwrap();
        assert!(program(&rules, &[]).unwrap().is_none());
    }

    #[test]
    fn a_rule_that_is_none_is_refused() {
        for rules in [
            r#"[{"allow": true, "type": "x"}]"#,
            r#"[{"allow": true, "access": "q"}]"#,
            r#"[{"allow": true, "major": -7}]"#,
        ] {
            let rules: Vec<DeviceRule> = serde_json::from_str(rules).unwrap();
            assert!(program(&rules, &[]).is_err());
        }
    }

    #[test]
    fn more_rules_than_fit_are_refused() {
        let many = vec![DeviceRule::default(); MOST];
        assert!(program(&many, &[]).is_err());
        let most: Vec<DeviceRule> = many.into_iter().skip(16).collect();
        program(&most, &[]).unwrap();
    }
}

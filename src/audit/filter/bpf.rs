//! Classic BPF as seccomp runs it, over every argument at once.
//!
//! The number and the architecture of a call are known, its arguments are not. A value is a number or *any*; a
//! branch on any value is taken both ways, and where ways meet again, values that differ become any. So an
//! answer that some argument leads to is always found (one that none leads to may be found as well), in one
//! pass: jumps of classic BPF lead forward only (Linux `Documentation/networking/filter.rst`).

use super::outcome::{Action, Outcomes};

/// An instruction (Linux `uapi/linux/filter.h`, `sock_filter`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    /// Class, size or operation, and mode or source.
    pub(super) code: u16,
    /// How many instructions to skip when a condition holds.
    pub(super) jt: u8,
    /// How many to skip when it does not.
    pub(super) jf: u8,
    /// A constant, an offset or a slot.
    pub(super) k: u32,
}

/// A call without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// `AUDIT_ARCH_...` (Linux `uapi/linux/audit.h`).
    pub(super) arch: u32,
    /// Its number.
    pub(super) number: u32,
}

/// A program that the kernel would not have taken: nothing is known of what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instruction {0} is none that seccomp runs")]
pub(super) struct BadInstruction(usize);

/// `struct seccomp_data` is this long: number, architecture, instruction pointer, six arguments.
const DATA_BYTES: u32 = 64;
const SLOTS: usize = 16;

/// A number, or any.
type Value = Option<u32>;

/// Accumulator, index and scratch memory before an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Registers {
    a: Value,
    x: Value,
    memory: [Value; SLOTS],
}

impl Registers {
    /// What the kernel starts with: zeros.
    const START: Self = Self {
        a: Some(0),
        x: Some(0),
        memory: [Some(0); SLOTS],
    };

    /// What is true whichever way was taken.
    fn meet(&mut self, other: &Self) {
        let keep = |one: &mut Value, two: Value| {
            if *one != two {
                *one = None;
            }
        };
        keep(&mut self.a, other.a);
        keep(&mut self.x, other.x);
        for (one, two) in self.memory.iter_mut().zip(other.memory) {
            keep(one, two);
        }
    }
}

/// Where an instruction leads.
enum Step {
    Next,
    Jump(u32),
    Branch(Option<bool>),
    End(Value),
    /// The kernel ends a program that divides by zero with the answer 0.
    NextOrEnd(u32),
}

/// Every action that `program` can answer a call with, whatever its arguments.
///
/// # Errors
/// When the program holds what the kernel does not take.
pub(super) fn outcomes(program: &[Instruction], call: Call) -> Result<Outcomes, BadInstruction> {
    let mut before: Vec<Option<Registers>> = vec![None; program.len()];
    let mut found = Outcomes::default();
    if let Some(first) = before.first_mut() {
        *first = Some(Registers::START);
    }
    for (at, instruction) in program.iter().enumerate() {
        let Some(mut registers) = before[at] else {
            continue;
        };
        let bad = BadInstruction(at);
        let step = step(*instruction, &mut registers, call).ok_or(bad)?;
        let skips: &[u32] = match step {
            Step::Next => &[0],
            Step::NextOrEnd(answer) => {
                found.add(Action::of(answer));
                &[0]
            }
            Step::Jump(skip) => &[skip],
            Step::Branch(Some(true)) => &[instruction.jt.into()],
            Step::Branch(Some(false)) => &[instruction.jf.into()],
            Step::Branch(None) => &[instruction.jt.into(), instruction.jf.into()],
            Step::End(Some(answer)) => {
                found.add(Action::of(answer));
                &[]
            }
            Step::End(None) => {
                found.extend(Outcomes::any());
                &[]
            }
        };
        for skip in skips {
            let to = usize::try_from(*skip)
                .ok()
                .and_then(|skip| (at + 1).checked_add(skip));
            let place = to.and_then(|to| before.get_mut(to)).ok_or(bad)?;
            match place {
                Some(there) => there.meet(&registers),
                None => *place = Some(registers),
            }
        }
    }
    Ok(found)
}

/// Classes, sizes, modes, sources and operations (Linux `uapi/linux/bpf_common.h`).
mod code {
    pub(super) const CLASS: u16 = 0x07;
    pub(super) const LD: u16 = 0x00;
    pub(super) const LDX: u16 = 0x01;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const ALU: u16 = 0x04;
    pub(super) const JMP: u16 = 0x05;
    pub(super) const RET: u16 = 0x06;
    pub(super) const MISC: u16 = 0x07;
    /// Size (a word) and mode of a load.
    pub(super) const IMMEDIATE: u16 = 0x00;
    pub(super) const ABSOLUTE: u16 = 0x20;
    pub(super) const MEMORY: u16 = 0x60;
    pub(super) const LENGTH: u16 = 0x80;
    /// The source of an operand is the index and not the constant.
    pub(super) const FROM_X: u16 = 0x08;
    pub(super) const OPERATION: u16 = 0xf0;
    /// Of an answer: the accumulator.
    pub(super) const FROM_A: u16 = 0x10;
    pub(super) const TXA: u16 = 0x80;
}

/// Runs one instruction; `None` for one that seccomp does not have.
fn step(instruction: Instruction, registers: &mut Registers, call: Call) -> Option<Step> {
    let Instruction { code, k, .. } = instruction;
    let rest = code & !code::CLASS;
    let operand = match rest & code::FROM_X {
        0 => Some(k),
        _ => registers.x,
    };
    match code & code::CLASS {
        code::LD if rest == code::ABSOLUTE => registers.a = data(k, call)?,
        code::LD => registers.a = load(rest, k, registers)?,
        code::LDX => registers.x = load(rest, k, registers)?,
        code::ST if rest == 0 => *registers.memory.get_mut(slot(k)?)? = registers.a,
        code::STX if rest == 0 => *registers.memory.get_mut(slot(k)?)? = registers.x,
        code::ALU => return arithmetic(rest & code::OPERATION, operand, registers),
        code::JMP => return branch(rest, k, operand, registers.a),
        code::RET if rest == 0 => return Some(Step::End(Some(k))),
        code::RET if rest == code::FROM_A => return Some(Step::End(registers.a)),
        code::MISC if rest == 0 => registers.x = registers.a,
        code::MISC if rest == code::TXA => registers.a = registers.x,
        _ => return None,
    }
    Some(Step::Next)
}

fn slot(k: u32) -> Option<usize> {
    usize::try_from(k).ok().filter(|slot| *slot < SLOTS)
}

/// A word of `struct seccomp_data`.
fn data(offset: u32, call: Call) -> Option<Value> {
    match offset {
        0 => Some(Some(call.number)),
        4 => Some(Some(call.arch)),
        _ if offset < DATA_BYTES && offset.is_multiple_of(4) => Some(None),
        _ => None,
    }
}

fn load(mode: u16, k: u32, registers: &Registers) -> Option<Value> {
    match mode {
        code::IMMEDIATE => Some(Some(k)),
        code::MEMORY => registers.memory.get(slot(k)?).copied(),
        code::LENGTH => Some(Some(DATA_BYTES)),
        _ => None,
    }
}

fn arithmetic(operation: u16, operand: Value, registers: &mut Registers) -> Option<Step> {
    const DIVIDE: u16 = 0x30;
    const AND: u16 = 0x50;
    const NEGATE: u16 = 0x80;
    let a = registers.a;
    if operation == DIVIDE && operand == Some(0) {
        return Some(Step::End(Some(0)));
    }
    registers.a = match (operation, a, operand) {
        (NEGATE, ..) => a.map(u32::wrapping_neg),
        (AND, _, Some(0)) | (AND, Some(0), _) => Some(0),
        (_, Some(a), Some(operand)) => Some(calculate(operation, a, operand)?),
        // Whether it is an operation does not depend on its operands.
        _ => calculate(operation, 1, 1).and(None::<u32>),
    };
    calculate(operation, 1, 1)?;
    let may_divide_by_zero = operation == DIVIDE && operand.is_none();
    Some(match may_divide_by_zero {
        true => Step::NextOrEnd(0),
        false => Step::Next,
    })
}

fn calculate(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        // The processor takes the shift's last five bits.
        0x60 => a.wrapping_shl(operand),
        0x70 => a.wrapping_shr(operand),
        0x80 => a.wrapping_neg(),
        0xa0 => a ^ operand,
        _ => return None,
    })
}

fn branch(rest: u16, k: u32, operand: Value, a: Value) -> Option<Step> {
    let compare: fn(u32, u32) -> bool = match rest & code::OPERATION {
        0x00 if rest == 0 => return Some(Step::Jump(k)),
        0x10 => |a, b| a == b,
        0x20 => |a, b| a > b,
        0x30 => |a, b| a >= b,
        0x40 => |a, b| a & b != 0,
        _ => return None,
    };
    Some(Step::Branch(a.zip(operand).map(|(a, b)| compare(a, b))))
}

//! Filters as a compiler makes them, and as nobody should.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::super::report::State;
use super::super::threads::tests::thread;
use super::bpf::{Call, Instruction, outcomes};
use super::calls::evaluate;
use super::outcome::{Action, Outcomes};
use super::*;

const X86_64: u32 = 0xc000_003e;

fn compile(
    rules: Vec<(i64, Vec<SeccompRule>)>,
    matched: SeccompAction,
    rest: SeccompAction,
) -> Vec<Instruction> {
    let rules: BTreeMap<_, _> = rules.into_iter().collect();
    let filter = SeccompFilter::new(rules, rest, matched, TargetArch::x86_64).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let own = |instruction: &seccompiler::sock_filter| Instruction {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: instruction.k,
    };
    program.iter().map(own).collect()
}

fn always(numbers: &[i64]) -> Vec<(i64, Vec<SeccompRule>)> {
    numbers.iter().map(|number| (*number, Vec::new())).collect()
}

fn when(argument: u8, width: Width, compare: Compare, value: u64) -> Vec<SeccompRule> {
    let condition = SeccompCondition::new(argument, width, compare, value).unwrap();
    vec![SeccompRule::new(vec![condition]).unwrap()]
}

/// A program of instructions `(code, jt, jf, k)`.
fn program(instructions: &[(u16, u8, u8, u32)]) -> Vec<Instruction> {
    let one = |&(code, jt, jf, k): &(u16, u8, u8, u32)| Instruction { code, jt, jf, k };
    instructions.iter().map(one).collect()
}

const CALL: Call = Call {
    arch: X86_64,
    number: 7,
};

#[test]
fn an_allow_list_has_its_calls_and_no_others() {
    let mut rules = always(&[libc::SYS_read, libc::SYS_write, libc::SYS_futex]);
    let tcgets = when(1, Width::Dword, Compare::Eq, 0x5401);
    rules.push((libc::SYS_ioctl, tcgets));
    let filter = compile(rules, SeccompAction::Allow, SeccompAction::KillProcess);
    let calls = evaluate(&[filter]).unwrap();
    assert_eq!(calls.allowed, ["read", "write", "futex"]);
    assert_eq!(calls.by_argument, ["ioctl"]);
    assert_eq!((calls.count, calls.x32, calls.i386), (4, 0, 0));
    assert_eq!(calls.rest, ["kill-process"]);
    assert_eq!(short(&calls).state, State::InForce);
    assert_eq!(ban(&calls).state, State::InForce);
    assert_eq!(foreign(&calls).state, State::InForce);
}

#[test]
fn every_way_to_compare_an_argument_is_a_call_by_argument() {
    let wide = 0x1234_5678_9abc_def0;
    for compare in [
        Compare::Eq,
        Compare::Ne,
        Compare::Ge,
        Compare::Gt,
        Compare::Le,
        Compare::Lt,
        Compare::MaskedEq(0xff),
    ] {
        for (width, value) in [(Width::Dword, 16), (Width::Qword, wide)] {
            let rules = vec![(libc::SYS_mmap, when(2, width, compare.clone(), value))];
            let filter = compile(rules, SeccompAction::Allow, SeccompAction::Trap);
            let calls = evaluate(&[filter]).unwrap();
            assert_eq!(calls.by_argument, ["mmap"], "{compare:?}");
            assert!(calls.allowed.is_empty(), "{calls:?}");
            assert_eq!(calls.rest, ["trap"]);
        }
    }
}

#[test]
fn a_condition_that_every_argument_meets_is_none() {
    // Of a word of 32 bits this mask leaves nothing, so nothing is compared with nothing.
    let ever = when(2, Width::Dword, Compare::MaskedEq(0xff << 32), 16);
    let rules = vec![(libc::SYS_mmap, ever)];
    let filter = compile(rules, SeccompAction::Allow, SeccompAction::Trap);
    let calls = evaluate(&[filter]).unwrap();
    assert_eq!(calls.allowed, ["mmap"]);
    assert!(calls.by_argument.is_empty(), "{calls:?}");
}

#[test]
fn a_list_that_only_forbids_is_found_out() {
    let rules = always(&[libc::SYS_openat, libc::SYS_execve]);
    let filter = compile(rules, SeccompAction::Errno(1), SeccompAction::Allow);
    let calls = evaluate(&[filter]).unwrap();
    assert!(calls.count > 1000, "{}", calls.count);
    assert!(!calls.allowed.contains(&"openat".to_owned()));
    assert!(calls.dangerous.contains(&"open".to_owned()));
    assert!(calls.x32 > 0);
    assert_eq!(calls.i386, 0);
    for judge in [short, ban, foreign] {
        assert_eq!(judge(&calls).state, State::Absent);
    }
}

#[test]
fn the_stricter_of_two_filters_counts() {
    let first = compile(
        always(&[libc::SYS_read, libc::SYS_write]),
        SeccompAction::Allow,
        SeccompAction::Errno(1),
    );
    let second = compile(
        always(&[libc::SYS_write, libc::SYS_open]),
        SeccompAction::Allow,
        SeccompAction::KillProcess,
    );
    let calls = evaluate(&[first, second]).unwrap();
    assert_eq!(calls.allowed, ["write"]);
    assert_eq!(calls.rest, ["kill-process", "errno"]);
}

#[test]
fn a_call_that_is_logged_is_let_through() {
    let filter = compile(
        always(&[libc::SYS_read]),
        SeccompAction::Allow,
        SeccompAction::Log,
    );
    let calls = evaluate(&[filter]).unwrap();
    assert!(calls.rest.is_empty(), "{calls:?}");
    assert_eq!(short(&calls).state, State::Absent);
}

#[test]
fn without_a_filter_nothing_is_refused() {
    let calls = evaluate(&[]).unwrap();
    assert_eq!(short(&calls).state, State::Absent);
    assert_eq!(ban(&calls).state, State::Absent);
}

#[test]
fn numbers_are_calculated_as_the_kernel_does() {
    // a = 6; then an operation with the constant; then: is it the expected number?
    for (operation, constant, expected) in [
        (0x04, 3, 9),
        (0x14, 7, u32::MAX),
        (0x24, 5, 30),
        (0x34, 4, 1),
        (0x44, 9, 15),
        (0x54, 3, 2),
        (0x64, 2, 24),
        (0x74, 1, 3),
        (0x84, 0, 6_u32.wrapping_neg()),
        (0xa4, 5, 3),
    ] {
        let filter = program(&[
            (0x00, 0, 0, 6),
            (operation, 0, 0, constant),
            (0x15, 0, 1, expected),
            (0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
            (0x06, 0, 0, libc::SECCOMP_RET_TRAP),
        ]);
        let found = outcomes(&filter, CALL).unwrap();
        assert_eq!(found, Outcomes::only(Action::Allow), "{operation:#x}");
    }
}

#[test]
fn memory_and_the_index_keep_what_is_put_there() {
    // The number goes to slot 3, from there to x, back to a, and is compared with x.
    let filter = program(&[
        (0x20, 0, 0, 0),
        (0x02, 0, 0, 3),
        (0x61, 0, 0, 3),
        (0x87, 0, 0, 0),
        (0x1d, 0, 1, 0),
        (0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
        (0x06, 0, 0, libc::SECCOMP_RET_TRAP),
    ]);
    let found = outcomes(&filter, CALL).unwrap();
    assert_eq!(found, Outcomes::only(Action::Allow));
}

#[test]
fn ways_that_meet_forget_what_differs() {
    // a is 1 or 2, by an argument; whether it is 1 is open afterwards, whether it is 0 is not.
    let meeting = |asked: u32| {
        program(&[
            (0x20, 0, 0, 16),
            (0x15, 0, 2, 5),
            (0x00, 0, 0, 1),
            (0x05, 0, 0, 1),
            (0x00, 0, 0, 2),
            (0x15, 0, 1, asked),
            (0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
            (0x06, 0, 0, libc::SECCOMP_RET_TRAP),
        ])
    };
    let found = outcomes(&meeting(1), CALL).unwrap();
    let words: Vec<_> = found.words().collect();
    assert_eq!(words, ["trap", "allow"]);
}

#[test]
fn an_answer_made_of_an_argument_may_be_any() {
    let filter = program(&[(0x20, 0, 0, 16), (0x16, 0, 0, 0)]);
    assert_eq!(outcomes(&filter, CALL).unwrap(), Outcomes::any());
    // The same divided by an argument: by zero it ends at once.
    let divided = program(&[
        (0x20, 0, 0, 16),
        (0x07, 0, 0, 0),
        (0x3c, 0, 0, 0),
        (0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
    let words: Vec<_> = outcomes(&divided, CALL).unwrap().words().collect();
    assert_eq!(words, ["kill-thread", "allow"]);
}

#[test]
fn a_program_that_the_kernel_does_not_take_is_refused() {
    for bad in [
        // No such class, operation, mode or slot; a half word; past the data; not a multiple of 4.
        program(&[(0xff, 0, 0, 0)]),
        program(&[(0xf4, 0, 0, 1), (0x06, 0, 0, 0)]),
        program(&[(0xb5, 0, 0, 0), (0x06, 0, 0, 0)]),
        program(&[(0x02, 0, 0, 16), (0x06, 0, 0, 0)]),
        program(&[(0x28, 0, 0, 0), (0x06, 0, 0, 0)]),
        program(&[(0x20, 0, 0, 64), (0x06, 0, 0, 0)]),
        program(&[(0x20, 0, 0, 2), (0x06, 0, 0, 0)]),
        // Past the end, by a jump and by having none.
        program(&[(0x05, 0, 0, 9), (0x06, 0, 0, 0)]),
        program(&[(0x05, 0, 0, u32::MAX), (0x06, 0, 0, 0)]),
        program(&[(0x20, 0, 0, 16), (0x15, 0, 9, 0), (0x06, 0, 0, 0)]),
        program(&[(0x00, 0, 0, 1)]),
    ] {
        let filter = [bad];
        assert!(evaluate(&filter).is_err(), "{filter:?}");
    }
    // None at all has no answer, and so refuses nothing.
    assert!(!outcomes(&[], CALL).unwrap().refused());
}

/// As the first thread's list is judged.
fn short(calls: &Calls) -> Finding {
    list(calls, most("ravelin", true))
}

#[test]
fn a_list_is_judged_by_what_its_thread_is_for() {
    let of = |count| Calls {
        count,
        ..Calls::default()
    };
    for (name, is_first, longest) in [
        ("ravelin", true, 40),
        ("api", false, 25),
        ("fc_api", false, 25),
        ("vcpu11", false, 20),
        ("fc_vcpu 0", false, 20),
        ("io0", false, 25),
        ("vcpu0", true, 40),
    ] {
        let state = |count| list(&of(count), most(name, is_first)).state;
        assert_eq!(state(longest), State::InForce, "{name}");
        assert_eq!(state(longest + 1), State::Absent, "{name}");
    }
}

#[test]
fn one_thread_without_a_filter_is_a_hole() {
    let threads = [
        thread("main", "Seccomp:\t2\nSeccomp_filters:\t2\n"),
        thread("io0", "Seccomp:\t0\nSeccomp_filters:\t0\n"),
    ];
    let found = over(&threads, mode);
    assert_eq!(found, Finding::absent("io0: no filter"));
    assert_eq!(over(&threads[..1], mode), Finding::in_force("2 filters"));
    assert_eq!(mode(&thread("x", "")).state, State::NotTestable);
}

#[test]
fn filters_that_could_not_be_read_are_not_green() {
    let filtered = thread("main", "Seccomp:\t2\n");
    let found = known_of(&filtered, Some("ptrace is refused"), short);
    assert_eq!(found, Finding::not_testable("ptrace is refused"));
    let open = thread("main", "Seccomp:\t0\n");
    assert_eq!(known_of(&open, None, short).state, State::Absent);
}

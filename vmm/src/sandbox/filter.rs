//! From allowances to a program for the kernel (seccomp(2)).

use std::collections::BTreeMap;
use std::env;

use devices::syscalls::{Allowance, Condition, Test, Width};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// The program that lets what is in `allowances` pass and has `otherwise` done with everything else. It kills
/// what was called by another architecture's numbers; those of x32 match none of ours.
///
/// # Errors
/// When this processor is not one that filters are known for.
pub(super) fn compile(
    allowances: &[Allowance],
    otherwise: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::<i64, Vec<SeccompRule>>::new();
    for allowance in allowances {
        let alternatives = rules.entry(allowance.call.number).or_default();
        if !allowance.conditions.is_empty() {
            let conditions = allowance.conditions.iter().map(condition);
            alternatives.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
        }
    }
    // A call that one of them allows whatever its arguments needs no comparison.
    for allowance in allowances.iter().filter(|it| it.conditions.is_empty()) {
        rules.insert(allowance.call.number, Vec::new());
    }
    let processor = env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, otherwise, SeccompAction::Allow, processor)?.try_into()
}

fn condition(condition: &Condition) -> Result<SeccompCondition, BackendError> {
    let width = match condition.width {
        Width::Four => SeccompCmpArgLen::Dword,
        Width::Eight => SeccompCmpArgLen::Qword,
    };
    let (operator, value) = match condition.test {
        Test::Is(value) => (SeccompCmpOp::Eq, value),
        Test::Without(bits) => (SeccompCmpOp::MaskedEq(bits), 0),
        Test::Masked { of, is } => (SeccompCmpOp::MaskedEq(of), is),
        Test::ThisProcess => (SeccompCmpOp::Eq, std::process::id().into()),
    };
    SeccompCondition::new(condition.argument, width, operator, value)
}

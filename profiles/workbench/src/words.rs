//! Answers, conditions and calls in words: how people read them, and how programs do.

use cofferdam_profiles::seccomp::{Action, Arch, Op, Test};
use serde_json::{Value, json};

use crate::dialect::errno;

/// An answer, as in `allow` or `errno EPERM`.
pub fn action(action: Action) -> String {
    match action {
        Action::KillProcess => "kill the process".to_owned(),
        Action::KillThread => "kill the thread".to_owned(),
        Action::Trap => "trap (SIGSYS)".to_owned(),
        Action::Errno(number) => match errno::name(number.into()) {
            Some(name) => format!("errno {name}"),
            None => format!("errno {number}"),
        },
        Action::Notify => "ask the listener".to_owned(),
        Action::Trace(message) => format!("ask the tracer ({message})"),
        Action::Log => "allow and log".to_owned(),
        Action::Allow => "allow".to_owned(),
    }
}

/// An answer as in a profile: its action and errno.
pub fn action_json(action: Action) -> Value {
    let (action, errno) = action.to_oci();
    match errno {
        Some(errno) => json!({ "action": action.to_string(), "errno": errno }),
        None => json!({ "action": action.to_string() }),
    }
}

/// A condition, as in `arg0 & 0x7e020000 == 0`.
pub fn test(test: Test) -> String {
    let Test { index, op, value } = test;
    let value = number(value);
    match op {
        Op::Ne => format!("arg{index} != {value}"),
        Op::Lt => format!("arg{index} < {value}"),
        Op::Le => format!("arg{index} <= {value}"),
        Op::Eq => format!("arg{index} == {value}"),
        Op::Ge => format!("arg{index} >= {value}"),
        Op::Gt => format!("arg{index} > {value}"),
        Op::MaskedEq(mask) => format!("arg{index} & {} == {value}", number(mask)),
    }
}

/// Conditions that must all hold.
pub fn tests(tests: &[Test]) -> String {
    let each: Vec<String> = tests.iter().map(|one| test(*one)).collect();
    each.join(" and ")
}

/// Small numbers in decimal, flags and the like in hexadecimal.
pub fn number(value: u64) -> String {
    if value < 1024 {
        value.to_string()
    } else {
        format!("{value:#x}")
    }
}

/// An architecture's usual name.
pub fn arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64",
        Arch::X86 => "x86",
        Arch::X32 => "x32",
        Arch::Aarch64 => "aarch64",
        Arch::Arm => "arm",
        Arch::Riscv64 => "riscv64",
    }
}

/// Arguments without the zeros at their end.
pub fn arguments(args: &[u64; 6]) -> String {
    let end = args
        .iter()
        .rposition(|value| *value != 0)
        .map_or(1, |last| last + 1);
    let each: Vec<String> = args.iter().take(end).map(|value| number(*value)).collect();
    each.join(" ")
}

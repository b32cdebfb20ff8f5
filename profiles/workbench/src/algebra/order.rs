//! A total order of answers, from the strictest to the loosest.
//!
//! The kernel orders the kinds (`seccomp(2)`); of answers of one kind the order here is a choice,
//! which makes unions and intersections unique: ENOSYS ("no such call") goes before every other
//! errno, then the smaller number.

use cofferdam_profiles::seccomp::Action;

/// ENOSYS (asm-generic/errno.h).
const ENOSYS: u16 = 38;

/// Where an answer stands: the smaller, the stricter.
pub fn strictness(action: Action) -> (u8, u32) {
    let within = match action {
        Action::Errno(ENOSYS) => 0,
        Action::Errno(errno) => 1 + u32::from(errno),
        Action::Trace(message) => message.into(),
        _ => 0,
    };
    (action.rank(), within)
}

/// The looser of two answers.
pub fn looser(a: Action, b: Action) -> Action {
    if strictness(a) >= strictness(b) { a } else { b }
}

/// The stricter of two answers.
pub fn stricter(a: Action, b: Action) -> Action {
    if strictness(a) <= strictness(b) { a } else { b }
}

//! Profiles compared and combined by what they mean, not by how they are written.
//!
//! A profile is a function from calls to answers. Answers are ordered (see [`order`]), so two
//! profiles have a union (at each call the looser answer) and an intersection (the stricter one),
//! which form a distributive lattice. Everything here is worked out exactly: the values of each
//! argument are cut into cells within which no condition changes its mind, and one value of each
//! cell speaks for all of it.

/// The values of arguments, cut where conditions change their mind.
mod cells;
/// Two profiles into one.
mod combine;
/// What two profiles answer differently.
mod diff;
/// A function from arguments to answers, as rules.
mod fit;
/// Which answer is the stricter.
pub mod order;
/// A value that passes some tests and not others.
mod witness;

pub use cells::{Cells, Point};
pub use combine::{Approximation, Combined, Operation, combine};
pub use diff::{Calls, Case, Change, Diff, Difference, diff};

use cofferdam_profiles::seccomp::InvalidProfile;

/// Why two profiles could not be compared or combined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlgebraError {
    /// A profile that means nothing.
    #[error("the {which} profile is not valid")]
    Invalid {
        /// Which one: "first" or "second".
        which: &'static str,
        /// Why.
        #[source]
        source: InvalidProfile,
    },
    /// Conditions whose cells are too many to go through.
    #[error(
        "the conditions on {call} are too many to be compared exactly; give it fewer rules with \
         arguments"
    )]
    TooComplex {
        /// The call.
        call: String,
    },
    /// Two agents for one filter.
    #[error(
        "both profiles name a listenerPath, {left:?} and {right:?}, and a filter has one \
         listener; make them the same"
    )]
    Listeners {
        /// The first's.
        left: String,
        /// The second's.
        right: String,
    },
}

/// Conditions with more cells than are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooComplex;

impl TooComplex {
    fn of(self, call: &str) -> AlgebraError {
        AlgebraError::TooComplex {
            call: call.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;

//! Puts a program together from its end to its start.
//!
//! Jumps in classic BPF go forward, the conditional ones at most 255 instructions, so written from
//! the end every target is known when it is jumped to, and one `return` serves all jumps in its
//! reach. That matters because the kernel checks and translates a program at each attach, and runs
//! it for every number to learn which always pass: an instruction costs there as much as a step on
//! the way of some thirty numbers. So the search is balanced by how many numbers a range holds, and
//! a lone number between two ranges of one answer is one comparison instead of two.

use super::bpf::{self, Compare, Instruction};
use super::model::Decision;

/// Numbers from `first` up to the next segment, and their answer.
pub(crate) struct Segment {
    pub(crate) first: u32,
    pub(crate) decision: Decision,
}

/// A place in the program: how many instructions come after it.
pub(crate) type Place = usize;

/// A program, the last instruction first.
#[derive(Default)]
pub(crate) struct Assembly {
    code: Vec<Instruction>,
    /// The nearest code of each decision so far.
    answers: Vec<(Decision, Place)>,
}

impl Assembly {
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        self.code.reverse();
        self.code
    }

    fn push(&mut self, instruction: Instruction) -> Place {
        self.code.push(instruction);
        self.code.len() - 1
    }

    /// Where the next instruction pushed would have to jump to reach `target`.
    fn distance(&self, target: Place) -> usize {
        self.code.len() - 1 - target
    }

    /// Code that returns a decision's answer.
    pub(crate) fn answer(&mut self, decision: &Decision) -> Place {
        let known = self.answers.iter().position(|(own, _)| own == decision);
        if let Some((_, place)) = known.and_then(|at| self.answers.get(at))
            && self.distance(*place) < usize::from(u8::MAX)
        {
            return *place;
        }
        for instruction in bpf::decide(decision).into_iter().rev() {
            self.push(instruction);
        }
        let place = self.code.len() - 1;
        if let Some(at) = known {
            self.answers.remove(at);
        }
        self.answers.push((decision.clone(), place));
        place
    }

    /// A search for the accumulator. There is at least one segment; `end` is where the last ends.
    pub(crate) fn search(&mut self, segments: &[Segment], end: u32) -> Place {
        match segments {
            // An empty list: nothing to decide, and nothing before it falls through to here.
            [] => self.code.len().saturating_sub(1),
            [only] => self.answer(&only.decision),
            [below, lone, above, ..] if exceptions_only(segments) => {
                let others = self.search(segments.get(2..).unwrap_or_default(), end);
                debug_assert_eq!(below.decision, above.decision);
                let own = self.answer(&lone.decision);
                self.branch(Compare::Equal, lone.first, own, others)
            }
            _ => {
                let (lower, upper) = segments.split_at(best_cut(segments, end));
                let first = upper.first().map_or(end, |segment| segment.first);
                let above = self.search(upper, end);
                let below = self.search(lower, first);
                self.branch(Compare::AtLeast, first, above, below)
            }
        }
    }

    /// A comparison and where it leads.
    pub(crate) fn branch(&mut self, compare: Compare, value: u32, yes: Place, no: Place) -> Place {
        // Each way may need an instruction in between, which puts the other one further off.
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let reach = |distance| u8::try_from(distance).unwrap_or(u8::MAX);
        let (jt, jf) = (reach(self.distance(yes)), reach(self.distance(no)));
        self.push(Instruction::compare(compare, value, jt, jf))
    }

    /// `target`, or a stand-in for it that a conditional jump reaches even if `more` instructions
    /// come in between.
    fn near(&mut self, target: Place, more: usize) -> Place {
        if self.distance(target) + more <= usize::from(u8::MAX) {
            return target;
        }
        match self.code.get(target) {
            Some(instruction) if instruction.is_return() => self.push(*instruction),
            _ => self.push(bpf::jump(self.distance(target))),
        }
    }

    pub(crate) fn load_number(&mut self, next: Place) -> Place {
        self.load(Instruction::load_number(), next)
    }

    pub(crate) fn load_arch(&mut self, next: Place) -> Place {
        self.load(Instruction::load_arch(), next)
    }

    fn load(&mut self, load: Instruction, next: Place) -> Place {
        if self.distance(next) > 0 {
            self.push(bpf::jump(self.distance(next)));
        }
        self.push(load)
    }
}

/// The kernel asks for numbers up to its last one, which is below this for years to come.
const ASKED: u32 = 512;
/// How many numbers' steps cost as much as an instruction: measured on Linux 6.18, x86-64.
const INSTRUCTION: u64 = 30;
/// So many lone numbers are told apart one after the other.
const EXCEPTIONS: usize = 3;

/// Whether `b` is a single number between two ranges of the same answer.
fn lone(a: &Segment, b: &Segment, c: &Segment) -> bool {
    a.decision == c.decision && b.first.checked_add(1) == Some(c.first)
}

/// Whether there is one answer but for a few lone numbers.
fn exceptions_only(segments: &[Segment]) -> bool {
    let odd = segments.len() % 2 == 1 && segments.len() / 2 <= EXCEPTIONS;
    odd && segments
        .windows(3)
        .step_by(2)
        .all(|three| matches!(three, [a, b, c] if lone(a, b, c)))
}

/// Where to halve a list of at least two segments.
fn best_cut(segments: &[Segment], end: u32) -> usize {
    let asked = |index: usize| {
        let first = segments.get(index).map_or(end, |segment| segment.first);
        u64::from(first.min(ASKED))
    };
    let (start, end) = (asked(0), asked(segments.len()));
    let breaks = |cut: usize| {
        let around =
            |from: usize| matches!(segments.get(from..), Some([a, b, c, ..]) if lone(a, b, c));
        around(cut.wrapping_sub(1)) || cut >= 2 && around(cut - 2)
    };
    let cost = |cut: &usize| {
        let below = asked(*cut) - start;
        let above = end - asked(*cut);
        let total = (below + above).max(1);
        // What a lopsided cut adds to the mean depth, in steps: 2 / ln 2 (p - 1/2)^2.
        let lopsided = 72 * below.abs_diff(above).pow(2) / (100 * total);
        let middle = cut.abs_diff(segments.len() / 2);
        (
            lopsided + if breaks(*cut) { INSTRUCTION } else { 0 },
            middle,
        )
    };
    (1..segments.len()).min_by_key(cost).unwrap_or(1)
}

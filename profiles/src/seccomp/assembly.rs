//! Puts a program together from its end to its start.
//!
//! Jumps in classic BPF go forward, the conditional ones at most 255 instructions, so written from
//! the end every target is known when it is jumped to, and one `return` serves all jumps in its
//! reach. A search over n ranges is n-1 comparisons and a handful of returns, a third of what
//! libseccomp makes of the built-in default. That matters because the kernel checks and translates
//! a program at each attach, and runs it for every number to learn which always pass.

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

    /// A binary search for the accumulator. There is at least one segment.
    pub(crate) fn search(&mut self, segments: &[Segment]) -> Place {
        let (lower, upper) = segments.split_at(segments.len() / 2);
        match (lower, upper) {
            ([], [only]) => self.answer(&only.decision),
            (_, [first, ..]) => {
                let above = self.search(upper);
                let below = self.search(lower);
                self.branch(Compare::AtLeast, first.first, above, below)
            }
            // An empty list: nothing to decide, and nothing before it falls through to here.
            (_, []) => self.code.len().saturating_sub(1),
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

//! Classic BPF: the instructions of a seccomp filter, the code for a decision, and an interpreter.

use super::action::Action;
use super::args::{Op, Test};
use super::model::{Decision, Rule};

/// `BPF_MAXINSNS` (linux/bpf_common.h): the kernel refuses longer programs.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

// Codes of linux/bpf_common.h, those that seccomp accepts and filters use.
const LD_W_ABS: u16 = 0x20;
const AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const JSET_K: u16 = 0x45;
const RET_K: u16 = 0x06;

// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Instruction {
    pub(crate) const SIZE: usize = 8;

    const fn new(code: u16, k: u32) -> Self {
        Self {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }

    pub(crate) const fn load_arch() -> Self {
        Self::new(LD_W_ABS, ARCH)
    }

    pub(crate) const fn load_number() -> Self {
        Self::new(LD_W_ABS, NUMBER)
    }

    pub(crate) fn compare(compare: Compare, value: u32, jt: u8, jf: u8) -> Self {
        let code = match compare {
            Compare::Equal => JEQ_K,
            Compare::AtLeast => JGE_K,
        };
        Self {
            code,
            jt,
            jf,
            k: value,
        }
    }

    pub(crate) fn is_return(self) -> bool {
        self.code == RET_K
    }

    pub(crate) fn ret(action: Action) -> Self {
        Self::returning(action.ret())
    }

    pub(crate) const fn returning(value: u32) -> Self {
        Self::new(RET_K, value)
    }

    /// Its constant.
    pub(crate) fn value(self) -> u32 {
        self.k
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        Self {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        }
    }
}

/// A comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compare {
    Equal,
    AtLeast,
}

/// Skips `distance` instructions. Programs have at most 4096, so a distance fits.
pub(crate) fn jump(distance: usize) -> Instruction {
    Instruction::new(JA, u32::try_from(distance).unwrap_or(u32::MAX))
}

/// Code that returns a decision's answer in every case.
pub(crate) fn decide(decision: &Decision) -> Vec<Instruction> {
    match decision {
        Decision::Always(action) => vec![Instruction::ret(*action)],
        Decision::Depends { rules, otherwise } => one_of(rules, *otherwise).unwrap_or_else(|| {
            let mut out: Vec<Instruction> = rules.iter().flat_map(rule_code).collect();
            out.push(Instruction::ret(*otherwise));
            out
        }),
    }
}

/// Code for rules that list values of one argument: each half is loaded once for all of them.
/// `None` if the rules say something else.
fn one_of(rules: &[Rule], otherwise: Action) -> Option<Vec<Instruction>> {
    let single = |rule: &Rule| match rule.tests[..] {
        [test] if test.op == Op::Eq => Some((test.index, halves(test.value), rule.action)),
        _ => None,
    };
    let (index, (high, _), action) = single(rules.first()?)?;
    let count = u8::try_from(rules.len()).ok()?;
    let load = |half| Instruction::new(LD_W_ABS, offset(index, half));
    let mut out = vec![
        load(Half::High),
        Instruction::compare(Compare::Equal, high, 0, count.checked_add(1)?),
        load(Half::Low),
    ];
    for (rule, to_end) in rules.iter().zip((1..=count).rev()) {
        let (own_index, (own_high, low), own_action) = single(rule)?;
        if (own_index, own_high, own_action) != (index, high, action) {
            return None;
        }
        out.push(Instruction::compare(Compare::Equal, low, to_end, 0));
    }
    out.push(Instruction::ret(otherwise));
    out.push(Instruction::ret(action));
    Some(out)
}

/// Code for the start of a program: answers `action` to calls, given as audit value and number, whose
/// first argument is `operation` and whose second has a bit of `flag`; falls through for all else.
/// Both parameters are 32 bits wide.
pub(crate) fn refuse_flag(
    calls: &[(u32, u32)],
    operation: u32,
    flag: u32,
    action: Action,
) -> Vec<Instruction> {
    let mut out = Vec::new();
    for (audit, number) in calls {
        let test = |code, k, jf| Instruction { code, jt: 0, jf, k };
        out.extend([
            Instruction::load_arch(),
            test(JEQ_K, *audit, 7),
            Instruction::load_number(),
            test(JEQ_K, *number, 5),
            Instruction::new(LD_W_ABS, offset(0, Half::Low)),
            test(JEQ_K, operation, 3),
            Instruction::new(LD_W_ABS, offset(1, Half::Low)),
            test(JSET_K, flag, 1),
            Instruction::ret(action),
        ]);
    }
    out
}

/// Where one comparison goes on.
#[derive(Clone, Copy)]
enum Next {
    /// The next instruction.
    Fall,
    /// The test passed: past the rest of it.
    Pass,
    /// The test failed: past the whole rule.
    Fail,
}

/// One step of a test: what to run, then where to go if the comparison holds or not.
struct Step {
    load: Vec<Instruction>,
    code: u16,
    k: u32,
    yes: Next,
    no: Next,
}

/// A rule: returns its action if all its tests pass, else falls through behind itself.
fn rule_code(rule: &Rule) -> Vec<Instruction> {
    let mut out = vec![Instruction::ret(rule.action)];
    // Built from the end, so that the distance to the end is known at each jump: at most six
    // tests of six instructions each, well within a conditional jump's reach.
    for test in rule.tests.iter().rev() {
        let mut code: Vec<Instruction> = Vec::new();
        for step in steps(*test).into_iter().rev() {
            let distance = |next| {
                let far = match next {
                    Next::Fall => 0,
                    Next::Pass => code.len(),
                    Next::Fail => code.len() + out.len(),
                };
                u8::try_from(far).unwrap_or(u8::MAX)
            };
            let compare = Instruction {
                code: step.code,
                jt: distance(step.yes),
                jf: distance(step.no),
                k: step.k,
            };
            let mut front = step.load;
            front.push(compare);
            front.extend(code);
            code = front;
        }
        code.extend(out);
        out = code;
    }
    out
}

/// The comparisons of a 64-bit test on a 32-bit machine: the high half, then the low half.
fn steps(test: Test) -> Vec<Step> {
    use Next::{Fail, Fall, Pass};
    let (high, low) = halves(test.value);
    let step = |half, code, k, yes, no| Step {
        load: vec![Instruction::new(LD_W_ABS, offset(test.index, half))],
        code,
        k,
        yes,
        no,
    };
    // The second comparison of a half that is already loaded.
    let again = |code, k, yes, no| Step {
        load: Vec::new(),
        code,
        k,
        yes,
        no,
    };
    match test.op {
        Op::Eq => vec![
            step(Half::High, JEQ_K, high, Fall, Fail),
            step(Half::Low, JEQ_K, low, Fall, Fail),
        ],
        Op::Ne => vec![
            step(Half::High, JEQ_K, high, Fall, Pass),
            step(Half::Low, JEQ_K, low, Fail, Fall),
        ],
        Op::Gt | Op::Ge => vec![
            step(Half::High, JGT_K, high, Pass, Fall),
            again(JEQ_K, high, Fall, Fail),
            step(
                Half::Low,
                if test.op == Op::Gt { JGT_K } else { JGE_K },
                low,
                Fall,
                Fail,
            ),
        ],
        Op::Lt | Op::Le => vec![
            step(Half::High, JGT_K, high, Fail, Fall),
            again(JEQ_K, high, Fall, Pass),
            step(
                Half::Low,
                if test.op == Op::Lt { JGE_K } else { JGT_K },
                low,
                Fail,
                Fall,
            ),
        ],
        Op::MaskedEq(mask) => {
            let (mask_high, mask_low) = halves(mask);
            let masked = |half, mask: u32, k| {
                let mut step = step(half, JEQ_K, k, Fall, Fail);
                if mask != u32::MAX {
                    step.load.push(Instruction::new(AND_K, mask));
                }
                step
            };
            let halves = [(Half::High, mask_high, high), (Half::Low, mask_low, low)];
            // A half that the mask leaves out passes whatever it holds.
            let tested = halves.into_iter().filter(|(_, mask, _)| *mask != 0);
            tested
                .map(|(half, mask, k)| masked(half, mask, k))
                .collect()
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    High,
    Low,
}

/// Where half of an argument lies in `struct seccomp_data`.
fn offset(index: u8, half: Half) -> u32 {
    let second = (half == Half::High) == cfg!(target_endian = "little");
    ARGS + 8 * u32::from(index) + if second { 4 } else { 0 }
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

/// One call as a filter sees it: `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// `AUDIT_ARCH_*`, see [`super::Arch::audit`].
    pub audit: u32,
    /// The number, x32 bit included.
    pub number: u32,
    /// The arguments as the registers held them.
    pub args: [u64; 6],
}

/// Why a program has no answer. The kernel would not have loaded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProgram {
    /// Its size is no multiple of an instruction's, or control left it.
    #[error("the filter ends in the middle")]
    Truncated,
    /// An instruction that seccomp filters cannot have.
    #[error("instruction {at} of the filter has the unknown code {code:#x}")]
    Code {
        /// Index of the instruction.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A load from outside `struct seccomp_data`.
    #[error("instruction {at} of the filter loads from outside the call's data")]
    Load {
        /// Index of the instruction.
        at: usize,
    },
}

/// Runs a filter on one call and gives the `SECCOMP_RET_*` value it returns.
///
/// Every jump goes forward, so this ends after at most one pass over the program.
pub fn interpret(program: &[u8], call: &Call) -> Result<u32, BadProgram> {
    let answer = run(program, |offset| load(call, offset).map(Some))?;
    // Every load had a value.
    answer.ok_or(BadProgram::Truncated)
}

/// The answer to a number whatever its arguments; `None` if the program looks at one.
pub(crate) fn interpret_without_arguments(
    program: &[u8],
    audit: u32,
    number: u32,
) -> Result<Option<u32>, BadProgram> {
    let args = [0; 6];
    let call = Call {
        audit,
        number,
        args,
    };
    run(program, |offset| match offset {
        NUMBER | ARCH => load(&call, offset).map(Some),
        _ => load(&call, offset).map(|_| None),
    })
}

/// Runs a program; `load` gives `None` for an offset outside of the call's data, and `Some(None)` for
/// a value that is not known, where the run ends without an answer.
fn run(
    program: &[u8],
    load: impl Fn(u32) -> Option<Option<u32>>,
) -> Result<Option<u32>, BadProgram> {
    let mut accumulator = 0u32;
    let mut at = 0usize;
    loop {
        let start = at * Instruction::SIZE;
        let bytes = program
            .get(start..start + Instruction::SIZE)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(BadProgram::Truncated)?;
        let instruction = Instruction::from_bytes(bytes);
        let Instruction { code, jt, jf, k } = instruction;
        let branch = |yes: bool| usize::from(if yes { jt } else { jf });
        let skip = match code {
            LD_W_ABS => {
                match load(k).ok_or(BadProgram::Load { at })? {
                    Some(value) => accumulator = value,
                    None => return Ok(None),
                }
                0
            }
            AND_K => {
                accumulator &= k;
                0
            }
            JA => usize::try_from(k).map_err(|_| BadProgram::Truncated)?,
            JEQ_K => branch(accumulator == k),
            JGT_K => branch(accumulator > k),
            JGE_K => branch(accumulator >= k),
            JSET_K => branch(accumulator & k != 0),
            RET_K => return Ok(Some(k)),
            _ => return Err(BadProgram::Code { at, code }),
        };
        at = at.saturating_add(1).saturating_add(skip);
        if at > MAX_INSTRUCTIONS {
            return Err(BadProgram::Truncated);
        }
    }
}

fn load(call: &Call, offset_wanted: u32) -> Option<u32> {
    match offset_wanted {
        NUMBER => Some(call.number),
        ARCH => Some(call.audit),
        _ => (0u8..6).zip(call.args).find_map(|(index, value)| {
            let (high, low) = halves(value);
            if offset_wanted == offset(index, Half::High) {
                Some(high)
            } else if offset_wanted == offset(index, Half::Low) {
                Some(low)
            } else {
                None
            }
        }),
    }
}

//! A function from arguments to answers, as the rules of a profile.
//!
//! Where several rules match, the strictest answers; so a rule is harmless where it is at least as
//! loose as what is wanted, and a list of rules is right if moreover every call that needs it has
//! a rule with exactly the wanted answer.

use std::collections::HashSet;

use cofferdam_profiles::seccomp::{Action, Both, Decision, Op, Rule, Test};

use super::cells::Point;
use super::order::{looser, strictness};

/// Conjunctions that are tried for one call.
const MAX_CUBES: usize = 4096;
/// Comparisons of a conjunction with a point; beyond, the function counts as inexpressible.
const MAX_WORK: usize = 1 << 24;

/// Conditions that must all hold, and at which points they do.
struct Cube {
    tests: Vec<Test>,
    holds: Vec<bool>,
}

/// Rules with the `wanted` answer at every point, under a default; `None` if none are found.
///
/// `sources` are the decisions that the function was made of: their conditions, the opposites of
/// these and two of them at once are what the rules are made of.
pub(super) fn fit(
    points: &[Point],
    wanted: &[Action],
    sources: &[&Decision],
    default: Action,
) -> Option<Vec<Rule>> {
    let loosest = wanted.iter().copied().reduce(looser)?;
    let always = |action| Rule {
        tests: Vec::new(),
        action,
    };
    if wanted.iter().all(|action| *action == loosest) {
        let rules = if loosest == default {
            vec![]
        } else {
            vec![always(loosest)]
        };
        return Some(rules);
    }
    let right = |rules: &Vec<Rule>| {
        let decision = Decision::of(rules.iter(), default);
        let same = |(point, action): (&Point, &Action)| decision.answer(point) == *action;
        points.iter().zip(wanted).all(same)
    };
    let own = sources.iter().filter_map(|one| as_is(one, default));
    if let Some(rules) = own.filter(right).min_by_key(Vec::len) {
        return Some(rules);
    }
    let cubes = cubes(points, sources);
    if cubes.len().saturating_mul(points.len()) > MAX_WORK / 64 {
        return None;
    }
    let rules: Vec<(Rule, &Cube)> = cubes
        .iter()
        .filter_map(|cube| {
            // No stricter than wanted anywhere it holds.
            let answers = wanted.iter().zip(&cube.holds).filter(|(_, holds)| **holds);
            let action = answers.map(|(action, _)| *action).reduce(looser)?;
            let tests = cube.tests.clone();
            Some((Rule { tests, action }, cube))
        })
        .collect();
    let mut found: Vec<Vec<Rule>> = Vec::new();
    for taste in [Taste::Exact, Taste::Careful, Taste::Greedy] {
        found.extend(cover(&rules, wanted, default, taste));
        found.extend(cover(&rules, wanted, loosest, taste).map(|mut rules| {
            if loosest != default {
                rules.push(always(loosest));
            }
            rules
        }));
    }
    found.into_iter().filter(right).min_by_key(Vec::len)
}

/// A decision's own rules.
fn as_is(decision: &Decision, default: Action) -> Option<Vec<Rule>> {
    let Decision::Depends { rules, otherwise } = decision else {
        return None;
    };
    let mut rules = rules.clone();
    if *otherwise != default {
        rules.push(Rule {
            tests: Vec::new(),
            action: *otherwise,
        });
    }
    Some(rules)
}

/// Which rules are preferred. A rule that holds where a stricter answer is wanted calls for another
/// rule there; sometimes that is shorter, sometimes there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taste {
    /// Only rules that hold nowhere else.
    Exact,
    /// Those that do more good than harm.
    Careful,
    /// Those that do the most good.
    Greedy,
}

/// A few of the rules, so that every point that needs it has one with the wanted answer; points
/// that want `otherwise` need none unless a looser rule holds there.
fn cover(
    rules: &[(Rule, &Cube)],
    wanted: &[Action],
    otherwise: Action,
    taste: Taste,
) -> Option<Vec<Rule>> {
    let mut chosen: Vec<&(Rule, &Cube)> = Vec::new();
    let mut left: Vec<bool> = wanted.iter().map(|action| *action != otherwise).collect();
    for last in [false, true] {
        if last {
            // Now it is known where a looser rule holds.
            for (at, (left, wanted)) in left.iter_mut().zip(wanted).enumerate() {
                let holds = |cube: &Cube| cube.holds.get(at).copied().unwrap_or(false);
                *left = *wanted == otherwise
                    && chosen
                        .iter()
                        .any(|(rule, cube)| holds(cube) && rule.action != *wanted);
            }
        }
        while left.contains(&true) {
            let gain = |(rule, cube): &(Rule, &Cube)| {
                let each = left.iter().zip(wanted).zip(&cube.holds);
                each.filter(|((left, wanted), holds)| **left && **holds && **wanted == rule.action)
                    .count()
            };
            let harm = |(rule, cube): &(Rule, &Cube)| {
                let each = wanted.iter().zip(&cube.holds);
                each.filter(|(wanted, holds)| **holds && **wanted != rule.action)
                    .count()
            };
            let score = |rule: &(Rule, &Cube)| match taste {
                Taste::Exact if harm(rule) > 0 => i64::MIN,
                Taste::Exact | Taste::Greedy => i64::try_from(gain(rule)).unwrap_or(i64::MAX),
                Taste::Careful => {
                    let [good, harm] = [gain(rule), harm(rule)].map(i64::try_from);
                    good.unwrap_or(i64::MAX) - harm.unwrap_or(i64::MAX)
                }
            };
            // Of equally good ones the first, which has the fewest conditions.
            let useful = rules.iter().rev().filter(|rule| gain(rule) > 0);
            let best = useful.max_by_key(|rule| score(rule))?;
            if score(best) == i64::MIN {
                return None;
            }
            let (rule, cube) = best;
            for ((left, wanted), holds) in left.iter_mut().zip(wanted).zip(&cube.holds) {
                *left &= !(*holds && *wanted == rule.action);
            }
            chosen.push(best);
        }
    }
    let mut out: Vec<Rule> = chosen.into_iter().map(|(rule, _)| rule.clone()).collect();
    // Of equally strict rules the first in a profile answers.
    out.sort_by(|a, b| {
        let key = |rule: &Rule| strictness(rule.action);
        key(a).cmp(&key(b)).then_with(|| a.tests.cmp(&b.tests))
    });
    Some(out)
}

/// The conditions to try, those with fewer tests first, one for each set of points.
fn cubes(points: &[Point], sources: &[&Decision]) -> Vec<Cube> {
    let mut base: Vec<Vec<Test>> = Vec::new();
    let mut add = |tests: Vec<Test>| {
        if !base.contains(&tests) {
            base.push(tests);
        }
    };
    for decision in sources {
        if let Decision::Depends { rules, .. } = decision {
            for rule in rules {
                add(rule.tests.clone());
                for test in rule.tests.iter().filter_map(|test| opposite(*test)) {
                    add(vec![test]);
                }
            }
        }
    }
    // In an order of their own, so that it does not matter which profile is the first.
    base.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    let mut keep = |tests: Vec<Test>| {
        if out.len() >= MAX_CUBES {
            return;
        }
        let passes = |point: &Point| {
            tests.iter().all(|test| {
                let value = point.get(usize::from(test.index));
                value.is_some_and(|value| test.passes(*value))
            })
        };
        let holds: Vec<bool> = points.iter().map(passes).collect();
        if holds.contains(&true) && seen.insert(holds.clone()) {
            out.push(Cube { tests, holds });
        }
    };
    base.iter().cloned().for_each(&mut keep);
    let pairs = base.len().saturating_mul(base.len()) / 2;
    if pairs.saturating_mul(points.len()) > MAX_WORK {
        return out;
    }
    for (at, left) in base.iter().enumerate() {
        for right in base.iter().skip(at + 1) {
            both(left, right).into_iter().for_each(&mut keep);
        }
    }
    out
}

/// Two conjunctions at once; `None` where they exclude each other or one test cannot say it.
fn both(left: &[Test], right: &[Test]) -> Option<Vec<Test>> {
    let mut out = left.to_vec();
    for test in right {
        match out.iter_mut().find(|own| own.index == test.index) {
            None => out.push(*test),
            Some(own) => match own.and(*test) {
                Both::One(one) => *own = one,
                Both::Never | Both::Inexpressible => return None,
            },
        }
    }
    out.sort_unstable();
    Some(out)
}

/// The test that passes where this one fails, if one test says so.
fn opposite(test: Test) -> Option<Test> {
    let op = match test.op {
        Op::Eq => Op::Ne,
        Op::Ne => Op::Eq,
        Op::Lt => Op::Ge,
        Op::Ge => Op::Lt,
        Op::Le => Op::Gt,
        Op::Gt => Op::Le,
        Op::MaskedEq(_) => return None,
    };
    Some(Test { op, ..test })
}

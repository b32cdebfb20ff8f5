//! Real images do their work under `baseline` as they do under runc; every exception is on purpose, and
//! is checked to be what the documentation says it is.

use std::collections::BTreeSet;

use cofferdam_integration::{
    compat::{Confinement, Extent, SUBJECTS, Suite, verdict},
    error::Result,
    gate,
};

/// How many images at least do their work under both.
const AT_LEAST: usize = 25;

#[test]
fn images_do_their_work_as_under_runc() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(suite) = gate::present(Suite::start())? else {
        return Ok(());
    };
    // One that is asked for by name may be heavy.
    let wanted = std::env::var("COFFERDAM_CASE").unwrap_or_default();
    if !wanted.is_empty() {
        return verdict(&suite.run(&wanted, Extent::All)?);
    }
    let outcomes = suite.run("", Extent::Light)?;
    for under in [Confinement::Runc, Confinement::Baseline] {
        let images = outcomes.iter().filter(|outcome| outcome.under == under);
        let images: BTreeSet<_> = images.map(|outcome| outcome.subject.image).collect();
        assert!(images.len() >= AT_LEAST, "only {images:?} under {under}");
    }
    verdict(&outcomes)
}

#[test]
fn names_are_told_apart() {
    let mut names: Vec<_> = SUBJECTS.iter().map(|subject| subject.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

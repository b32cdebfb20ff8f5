//! Real images do their work under `baseline` as they do under runc; every exception is on purpose, and
//! is checked to be what the documentation says it is.

use cofferdam_integration::{
    compat::{SUBJECTS, Suite, verdict},
    error::Result,
    gate,
};

#[test]
#[ignore = "takes minutes and images of its own: `make compat`"]
fn images_do_their_work_as_under_runc() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(suite) = gate::present(Suite::start())? else {
        return Ok(());
    };
    let wanted = std::env::var("COFFERDAM_CASE").unwrap_or_default();
    verdict(&suite.run(&wanted)?)
}

#[test]
fn names_are_told_apart() {
    let mut names: Vec<_> = SUBJECTS.iter().map(|subject| subject.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

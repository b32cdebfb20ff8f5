//! Any policy file is refused with a place in it, or its policies only tighten when they meet.

#![no_main]

use std::path::Path;

use cofferdam_profiles::policy::{PolicyFile, PolicyFileError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = match PolicyFile::parse(text, Path::new("policy.toml")) {
        Ok(file) => file,
        Err(PolicyFileError::Text { line, column, .. }) => {
            assert!(line >= 1 && column >= 1);
            return;
        }
        Err(_) => return,
    };
    assert!(file.policy(file.default_name()).is_some());
    let baseline = file.policy("baseline").expect("baseline is built in");
    for name in file.names() {
        let policy = file.policy(name).expect("a listed policy exists");
        let met = baseline.meet(policy);
        assert_eq!(met, policy.meet(baseline));
        assert!(
            met.capabilities
                .bounding
                .is_subset_of(baseline.capabilities.bounding)
        );
    }
});

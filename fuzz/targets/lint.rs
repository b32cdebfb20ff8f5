//! A profile as somebody wrote it: looking through it ends, and a repair leaves less to find.
#![no_main]

use cofferdam_profiles::capability;
use cofferdam_profiles::seccomp::Arch;
use cofferdam_workbench::dialect::Target;
use cofferdam_workbench::lint::{Options, fix, lint};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let options = Options::new(Target {
        capabilities: capability::ENGINE_DEFAULT,
        arch: Arch::X86_64,
        kernel: None,
    });
    let count = |text: &[u8]| {
        let report = lint(text, &options);
        report.findings.len() + report.not_shown
    };
    if let Some(fixed) = fix(data, &options) {
        let (before, after) = (count(data), count(fixed.text.as_bytes()));
        assert!(after < before, "{before} findings became {after}");
    }
});

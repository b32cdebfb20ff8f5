//! A recording and the evidence of an analysis, as somebody hands them over: what is read can be written,
//! merged, judged, made a profile and shown.
#![no_main]

use std::sync::LazyLock;

use cofferdam_profiles::seccomp::{Arch, Evaluator, default_profile};
use cofferdam_workbench::page::{Analysed, Page};
use cofferdam_workbench::recording::{read, synthesise};
use cofferdam_workbench::simulate::Simulator;
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

static PROFILE: LazyLock<LinuxSeccomp> =
    LazyLock::new(|| default_profile(&Capabilities::new(), Arch::NATIVE));

static SIMULATOR: LazyLock<Simulator<'static>> =
    LazyLock::new(|| Simulator::new(&PROFILE).expect("the default is valid"));

fuzz_target!(|data: &[u8]| {
    if let Ok(analysed) = serde_json::from_slice::<Analysed>(data) {
        show(&[], &[analysed]);
    }
    let Ok(recording) = read(data) else { return };
    let text = serde_json::to_vec(&recording).expect("JSON");
    assert_eq!(read(&text).expect("what was written"), recording);
    let _ = SIMULATOR.recording(&recording);
    if let Ok(made) = synthesise(&recording) {
        Evaluator::new(&made.profile).expect("a valid profile");
    }
    let twice = recording
        .clone()
        .merge(recording.clone())
        .expect("the same machine");
    assert_eq!(twice.phases.all().len(), recording.phases.all().len());
    show(&[recording], &[]);
});

fn show(recordings: &[cofferdam_workbench::recording::Recording], analyses: &[Analysed]) {
    let page = Page::new("<fuzz>", &PROFILE, recordings, analyses).expect("a valid profile");
    let html = page.html();
    // Nothing of the input may become a tag.
    assert!(!html.contains("<fuzz>") && !html.contains("<script src"));
}

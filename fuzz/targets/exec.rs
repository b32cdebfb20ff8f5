//! Any `process.json` of an exec is refused or gets no more than the container has.

#![no_main]

use std::sync::LazyLock;

use cofferdam_profiles::capability::{BASELINE, Set};
use cofferdam_profiles::policy::{
    ContainerRecord, HostFacts, PolicyFile, Selection, harden, harden_exec, parse_spec,
};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Process;

const SPEC: &str = r#"{
    "ociVersion": "1.1.0", "root": {"path": "rootfs"},
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/",
                "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]}},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
                             {"type": "mount"}, {"type": "network"}]}
}"#;

static RECORD: LazyLock<ContainerRecord> = LazyLock::new(|| {
    let spec = parse_spec(SPEC.as_bytes()).expect("the spec is sound");
    let file = PolicyFile::builtin();
    let hardened = harden(spec, &file, &Selection::default(), &HostFacts::default());
    hardened.expect("baseline admits it").record()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(process) = serde_json::from_slice::<Process>(bytes) else {
        return;
    };
    let Ok(hardened) = harden_exec(process, &RECORD) else {
        return;
    };
    let process = hardened.get();
    assert_eq!(process.no_new_privileges(), Some(true));
    let sets = process
        .capabilities()
        .as_ref()
        .expect("every set is written");
    for set in [
        sets.bounding(),
        sets.effective(),
        sets.permitted(),
        sets.ambient(),
    ] {
        let set = Set::from_oci(set.as_ref());
        assert!(set.is_subset_of(BASELINE) && set.len() <= 2);
    }
});

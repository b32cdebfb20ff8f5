//! Any `config.json` is refused or hardened, and a hardened one keeps the policy's promises.

#![no_main]

use cofferdam_profiles::capability::BASELINE;
use cofferdam_profiles::policy::{
    HostFacts, NamespaceOwner, PolicyFile, Questions, Selection, harden, parse_spec,
};
use cofferdam_profiles::seccomp::compile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = parse_spec(bytes) else {
        return;
    };
    let questions = Questions::of(&spec);
    let host = HostFacts {
        mount_sources: questions
            .mount_sources
            .into_iter()
            .map(|p| (p.clone(), p))
            .collect(),
        namespaces: questions
            .namespaces
            .into_iter()
            .map(|p| (p, NamespaceOwner::Other))
            .collect(),
        ..HostFacts::default()
    };
    let file = PolicyFile::builtin();
    let hardened = match harden(spec, &file, &Selection::default(), &host) {
        Ok(hardened) => hardened,
        Err(refusal) => {
            assert!(!refusal.to_string().contains(['\n', '\u{1b}']));
            return;
        }
    };
    let summary = &hardened.report().summary;
    assert!(summary.no_new_privileges);
    assert!(summary.capabilities_kept.is_subset_of(BASELINE));
    let profile = hardened
        .get()
        .linux()
        .as_ref()
        .and_then(|l| l.seccomp().clone());
    // A profile may be too long for a filter; it must not make the compiler panic.
    let _ = compile(&profile.expect("every container has a profile"));
    let text = hardened.report().render(100);
    assert!(!text.contains('\u{1b}'));
    let mut json = serde_json::to_value(hardened.get()).expect("a spec is JSON");
    if hardened.own_ids() {
        // The runtime puts in what it leased, once the policy has let the container pass.
        for mappings in ["uidMappings", "gidMappings"] {
            assert!(json["linux"][mappings].as_array().is_none_or(Vec::is_empty));
            json["linux"][mappings] =
                serde_json::json!([{"containerID": 0, "hostID": 0x7000_0000, "size": 65536}]);
        }
    }
    let json = serde_json::to_vec(&json).expect("a value is JSON");
    parse_spec(&json).expect("a hardened spec is a spec");
});

//! Any access document is refused or read; what was read is written and read as the same, its algebra
//! holds, and every ABI version gives a ruleset of known rights.

#![no_main]

use cofferdam_profiles::access::Access;
use cofferdam_profiles::landlock::{Request, Ruleset};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(access) = Access::from_json(bytes) else {
        return;
    };
    let text = access.to_json().expect("what was read can be written");
    let again = Access::from_json(text.as_bytes()).expect("what was written can be read");
    assert_eq!(access, again);
    // The sides' sources are joined, so only the rights are the same.
    let both = access.intersection(&access).expect("no new rules");
    assert_eq!(both.len(), access.len());
    assert_eq!(access.union(&access).expect("no new rules"), access);
    for (place, grant) in access.files() {
        assert!(access.rights_at(&place.path).contains(grant.rights));
        assert_eq!(access.rights_at(&place.path), both.rights_at(&place.path));
    }
    for abi in 0..9 {
        let request = Request {
            access: &access,
            files: true,
            log: true,
        };
        let ruleset = Ruleset::new(request, Some(abi));
        for rule in &ruleset.paths {
            assert!(rule.access != 0 && rule.access & !ruleset.handled_fs == 0);
        }
    }
});

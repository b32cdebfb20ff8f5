//! What the kernel says of something an AppArmor profile denied, with whatever a container put into it.
//! What is said of it must be bounded, printable and valid JSON, and a rule one that the reader of
//! access documents takes.
#![no_main]

use cofferdam_profiles::access::Access;
use cofferdam_profiles::apparmor::audit::{MAX_MESSAGE_BYTES, parse};
use cofferdam_profiles::apparmor::explain::{explain, shown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(message) = parse(data) else {
        return;
    };
    assert!(data.len() <= MAX_MESSAGE_BYTES);
    let meaning = explain(&message);
    for text in [
        &meaning.tried,
        &meaning.why,
        &meaning.edit,
        &shown(&message.command),
    ] {
        assert!(
            text.len() < 64 * 1024 && !text.contains(char::is_control),
            "{text:?}"
        );
    }
    serde_json::to_string(&meaning).expect("JSON");
    if let Some(rule) = meaning.add {
        let document = serde_json::json!({"version": 1, "files": [rule]}).to_string();
        let access = Access::from_json(document.as_bytes()).expect("a document");
        assert_eq!(access.len(), 1);
    }
});

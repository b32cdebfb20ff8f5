//! A profile's file in YAML: bounded, and the same when it is written and read again.
#![no_main]

use cofferdam_profiles::capability;
use cofferdam_profiles::seccomp::Arch;
use cofferdam_workbench::dialect::{
    Dialect, DialectError, MAX_NODES, Output, Target, node, read, read_named, write, yaml,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(documents) = yaml::parse(text) {
        let nodes: usize = documents.iter().map(count).sum();
        assert!(nodes <= MAX_NODES);
    }
    let document = match read(data) {
        Err(DialectError::Several { names }) => read_named(data, names.last().map(String::as_str)),
        read => read,
    };
    let Ok(document) = document else { return };
    let target = Target {
        capabilities: capability::ENGINE_DEFAULT,
        arch: Arch::X86_64,
        kernel: None,
    };
    let Ok(mut profile) = document.oci(&target) else {
        return;
    };
    let output = Output {
        dialect: Dialect::Spo,
        target: Some(&target),
        usual: &target,
        name: "fuzz",
    };
    let Ok(text) = write(&document, &output) else {
        return;
    };
    let again = read(text.as_bytes()).unwrap();
    // EPERM as the default's errno is the same as none, which is how the operator says it.
    let errno = profile.default_errno_ret().filter(|errno| *errno != 1);
    profile.set_default_errno_ret(errno);
    assert_eq!(again.oci(&target), Ok(profile), "{text}");
});

fn count(node: &node::Node) -> usize {
    1 + match &node.value {
        node::Value::List(list) => list.iter().map(count).sum::<usize>(),
        node::Value::Map(fields) => fields.iter().map(|(_, node)| count(node)).sum(),
        _ => 0,
    }
}

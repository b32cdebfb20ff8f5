//! Policy files, good and bad.

use super::*;
use crate::policy::model::{SeccompChoice, Verdict};
use crate::seccomp::Compat32;

fn parse(text: &str) -> Result<PolicyFile, PolicyFileError> {
    PolicyFile::parse(text, Path::new("policy.toml"))
}

#[test]
fn the_example_says_what_baseline_is() {
    let file = parse(PolicyFile::example()).unwrap();
    let example = file.policy("example").unwrap().clone();
    let name = "baseline".to_owned();
    assert_eq!(
        &Policy { name, ..example },
        file.policy("baseline").unwrap()
    );
}

#[test]
fn an_empty_file_is_the_builtin_one() {
    let file = parse("").unwrap();
    assert_eq!(file.default_name(), "baseline");
    assert_eq!(file.names().collect::<Vec<_>>(), ["baseline", "restricted"]);
}

#[test]
fn policies_extend_each_other_in_any_order() {
    let file = parse(
        r#"
        default = "a"
        [annotations]
        allow = ["cofferdam.dev/policy"]
        [policy.a]
        extends = "b"
        seccomp = "default"
        seccomp_compat32 = "socketcall"
        mounts.allow = ["/var/run/app/"]
        [policy.b]
        extends = "restricted"
        host_namespaces = { pid = "allow" }
        devices.allow = ["/dev/fuse", "c 226:*"]
        capabilities.bounding = ["cap_chown", "SYS_ADMIN"]
        rlimits.nofile = 0x400
        "#,
    )
    .unwrap();
    let a = file.policy("a").unwrap();
    assert_eq!(a.seccomp, SeccompChoice::Default);
    assert_eq!(a.seccomp_compat32, Compat32::Socketcall);
    let b = file.policy("b").unwrap();
    assert_eq!(b.seccomp_compat32, Compat32::Filtered);
    assert_eq!(a.host_namespaces.pid, Verdict::Allow);
    assert_eq!(a.host_namespaces.ipc, Verdict::Deny);
    assert_eq!(a.run_as_root, Verdict::Deny);
    assert_eq!(a.capabilities.bounding.to_string(), "CHOWN SYS_ADMIN");
    assert_eq!(a.devices.allow.len(), 2);
    assert_eq!(a.rlimits["nofile"], 1024);
    assert!(a.mounts.allow.contains(Path::new("/run/app")));
    assert!(file.annotation_may_loosen("cofferdam.dev/policy"));
    assert_eq!(file.default_name(), "a");
}

#[test]
fn mistakes_have_a_place_and_a_remedy() {
    for (text, expected) in [
        (
            "[policy.web]\n  capabilites = 1",
            "2:3: unknown key in [policy.web] \"capabilites\"; did you mean \"capabilities\"?",
        ),
        (
            "defualt = \"x\"",
            "1:1: unknown key \"defualt\"; did you mean \"default\"?",
        ),
        (
            "default = \"x\"",
            "1:11: unknown policy \"x\". Known: baseline, restricted",
        ),
        (
            "default = 1",
            "1:11: default is of type integer; write a string in quotes",
        ),
        (
            "[policy.w]\nprivileged = \"dney\"",
            "2:14: unknown privileged value \"dney\"; did you mean \"deny\"? Known: deny, strip, allow",
        ),
        (
            "[policy.w]\nrun_as_root = \"strip\"",
            "2:15: unknown run_as_root value \"strip\". Known: deny, allow",
        ),
        (
            "[policy.w]\nno_new_privileges = \"yes\"",
            "2:21: no_new_privileges is of type string; write true or false",
        ),
        (
            "[policy.w.capabilities]\nbounding = [\"CHOWN\", \"CHWON\"]",
            "2:22: unknown capability \"CHWON\"; did you mean \"CHOWN\"?",
        ),
        (
            "[policy.w.capabilities]\nbeyond = \"allow\"",
            "2:10: unknown beyond value \"allow\". Known: deny, strip",
        ),
        (
            "[policy.w]\nisolation = \"microvn\"",
            "2:13: unknown isolation value \"microvn\"; did you mean \"microvm\"?",
        ),
        (
            "[policy.w]\nlandlock = true",
            "2:12: policy.w.landlock is of type boolean; write a table: [policy.w.landlock]",
        ),
        (
            "[policy.w.landlock]\nfiles = \"all\"",
            "2:9: unknown files value \"all\". Known: off, mounts",
        ),
        (
            "[policy.w.landlock]\ndocuments = [\"a.json\"]",
            "2:14: \"a.json\" must be an absolute path without \"..\"",
        ),
        (
            "[policy.w.landlock]\ntcp_bind = [80, 65536]",
            "2:17: tcp_bind is of type integer; write \"any\" or a list of ports",
        ),
        (
            "[policy.w.landlock]\nsignals = \"none\"",
            "2:11: unknown signals value \"none\". Known: any, own",
        ),
        (
            "[policy.w]\nseccomp = \"none\"",
            "2:11: unknown seccomp value \"none\". Known: generate, intersect, default, engine",
        ),
        (
            "[policy.w]\n  seccomp_compat32 = \"socketcal\"",
            "2:22: unknown seccomp_compat32 value \"socketcal\"; did you mean \"socketcall\"? \
             Known: refused, filtered, socketcall",
        ),
        (
            "[policy.w]\nseccomp_compat32 = true",
            "2:20: seccomp_compat32 is of type boolean; write a string in quotes",
        ),
        (
            "[policy.w]\nseccomp_compat = \"refused\"",
            "2:1: unknown key in [policy.w] \"seccomp_compat\"; did you mean \"seccomp_compat32\"?",
        ),
        (
            "[policy.w]\nselinux_unconfined = \"strip\"",
            "2:22: unknown selinux_unconfined value \"strip\". Known: deny, allow",
        ),
        (
            "[policy.w]\nselinux_types = [\"u:r:my_app_t:s0\"]",
            "2:18: \"u:r:my_app_t:s0\" is no SELinux type",
        ),
        (
            "[policy.w]\nextends = \"w\"",
            "2:11: policies extend each other in a circle: w extends w",
        ),
        (
            "[policy.a]\nextends = \"b\"\n[policy.b]\nextends = \"a\"",
            "4:11: policies extend each other in a circle: a extends b extends a",
        ),
        (
            "[policy.a]\nextends = \"zz\"",
            "2:11: unknown policy \"zz\"",
        ),
        (
            "[policy.baseline]\n",
            "1:9: the policy \"baseline\" is built in",
        ),
        ("[policy.\"a+b\"]\n", "1:9: a policy's name has"),
        (
            "[policy.w.mounts]\nallow = [\"etc\"]",
            "2:10: \"etc\" must be an absolute path",
        ),
        (
            "[policy.w.mounts]\nallow = \"/etc\"",
            "2:9: allow is of type string; write a list of strings",
        ),
        (
            "[policy.w.sysctls]\nallow = [\"vm.swappiness\"]",
            "2:10: \"vm.swappiness\" belongs to no namespace",
        ),
        (
            "[policy.w.sysctls]\nallow = [\"*\"]",
            "2:10: \"*\" belongs to no namespace",
        ),
        (
            "[policy.w.devices]\nallow = [\"/dev/sda\"]",
            "2:10: \"/dev/sda\" is no device",
        ),
        (
            "[policy.w.rlimits]\nnofile = -1",
            "2:10: nofile is of type integer; write a whole number",
        ),
        (
            "[policy.w.rlimits]\nnofiles = 1",
            "2:1: unknown key in [policy.w.rlimits] \"nofiles\"; did you mean \"nofile\"?",
        ),
        (
            "[annotations]\nallow = [\"cofferdam.dev/seccomp\"]",
            "2:10: unknown annotation",
        ),
        (
            "policy = 1",
            "1:10: policy is of type integer; write a table: [policy]",
        ),
        (
            "[policy]\nweb = 1",
            "2:7: policy.web is of type integer; write a table: [policy.web]",
        ),
        ("a = 1\na = 2", "2:1: duplicate key"),
        ("[policy.w", "1:10: "),
        ("# é\n[policy.w]\nprivileged = \"é\"", "3:14: "),
    ] {
        let error = parse(text).unwrap_err().to_string();
        let found = error.strip_prefix("policy.toml:").unwrap();
        assert!(
            found.starts_with(expected),
            "{text}\n  expected {expected}\n  found    {found}"
        );
    }
}

#[test]
fn a_long_chain_is_settled_without_recursion() {
    let mut text = "[policy.p0]\n".to_owned();
    for n in 1..5000 {
        text.push_str(&format!("[policy.p{n}]\nextends = \"p{}\"\n", n - 1));
    }
    assert!(parse(&text).unwrap().policy("p4999").is_some());
}

#[test]
fn only_root_may_write_the_file() {
    for (owner, mode, good) in [
        (0, 0o644, true),
        (0, 0o600, true),
        (0, 0o664, false),
        (0, 0o646, false),
        (1000, 0o600, false),
    ] {
        assert_eq!(trusted_mode(owner, mode).is_ok(), good, "{owner} {mode:o}");
    }
}

#[test]
fn what_is_no_policy_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = PolicyFile::load(&dir.path().join("missing")).unwrap();
    assert_eq!(missing.default_name(), "baseline");
    let named = PolicyFile::load_named(&dir.path().join("missing")).unwrap_err();
    assert!(matches!(named, PolicyFileError::Read { .. }));
    std::os::unix::fs::symlink("missing", dir.path().join("link")).unwrap();
    let nowhere = PolicyFile::load(&dir.path().join("link")).unwrap_err();
    assert!(matches!(nowhere, PolicyFileError::Read { .. }));
    let refused = PolicyFile::load(dir.path()).unwrap_err();
    assert!(matches!(refused, PolicyFileError::Unsafe { .. }));
    let long = " ".repeat(MAX_POLICY_BYTES + 1);
    assert!(matches!(
        parse(&long),
        Err(PolicyFileError::TooLarge { .. })
    ));
}

//! What each dialect says, what is refused, and that writing and reading give the same again.

use cofferdam_profiles::capability::{ENGINE_DEFAULT, Set};
use cofferdam_profiles::seccomp::Arch;
use oci_spec::runtime::Capability;
use serde_json::{Value, json};

use super::*;

const USUAL: Target = Target {
    capabilities: ENGINE_DEFAULT,
    arch: Arch::X86_64,
    kernel: None,
};

fn read_json(value: &Value) -> Result<Document, DialectError> {
    read(value.to_string().as_bytes())
}

const DOCKER: &str = r#"{
  "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
  "archMap": [
    {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
    {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}
  ],
  "syscalls": [
    {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {}},
    {"name": "ptrace", "action": "SCMP_ACT_ALLOW", "comment": "see 4.8",
     "includes": {"minKernel": "4.8"}},
    {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
     "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
    {"names": ["riscv_flush_icache"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["riscv64"]}},
    {"names": ["old"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.0"}},
    {"names": ["not_arm"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["arm64"]}}
  ]
}"#;

#[test]
fn rules_are_chosen_by_the_container() {
    let with = |capabilities: &[Capability]| Target {
        capabilities: ENGINE_DEFAULT | Set::of(capabilities),
        ..USUAL
    };
    let kernel = |text| Target {
        kernel: Kernel::parse(text),
        ..USUAL
    };
    let arch = |arch| Target { arch, ..USUAL };
    let admin = [Capability::SysAdmin];
    let both = [Capability::SysAdmin, Capability::Bpf];
    let table: [(Target, &[usize]); 7] = [
        (USUAL, &[0, 1, 3, 4, 7]),
        (with(&admin), &[0, 1, 4, 7]),
        (with(&both), &[0, 1, 2, 4, 7]),
        (kernel("4.7"), &[0, 3, 4, 6, 7]),
        (kernel("4.19.0-27-amd64"), &[0, 1, 3, 4, 6, 7]),
        (arch(Arch::Aarch64), &[0, 1, 3]),
        (arch(Arch::Riscv64), &[0, 1, 3, 5, 7]),
    ];
    let document = read(DOCKER.as_bytes()).unwrap();
    assert_eq!(document.dialect, Dialect::Docker);
    for (target, expected) in table {
        let resolved = document.resolve(&target).unwrap();
        assert_eq!(resolved.origins, expected, "{target:?}");
        let rules = resolved.profile.syscalls().as_ref().unwrap();
        assert_eq!(rules.len(), expected.len());
        assert_eq!(resolved.excluded.len() + expected.len(), 8);
        let arches = resolved.profile.architectures().as_ref().map(Vec::len);
        let wanted = match target.arch {
            Arch::X86_64 => Some(3),
            Arch::Riscv64 => Some(1),
            _ => None,
        };
        assert_eq!(arches, wanted, "{target:?}");
    }
}

#[test]
fn dialects_are_told_by_content() {
    let oci = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": []});
    let podman = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "defaultErrno": "ENOSYS",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES"}]});
    let operator = json!({"apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
        "kind": "SeccompProfile", "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"defaultAction": "SCMP_ACT_LOG", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": "13"}]}});
    let config = json!({"ociVersion": "1.0.2", "process": {"args": ["a"]},
        "linux": {"seccomp": oci}});
    let table = [
        (&oci, Dialect::Oci, ""),
        (&podman, Dialect::Podman, ""),
        (&operator, Dialect::Spo, "/spec"),
        (&config, Dialect::Oci, "/linux/seccomp"),
    ];
    for (value, dialect, root) in table {
        let document = read_json(value).unwrap();
        assert_eq!((document.dialect, document.root.as_str()), (dialect, root));
        assert_eq!(document.unknown, [], "{value}");
    }
    let podman = read_json(&podman).unwrap().oci(&USUAL).unwrap();
    assert_eq!(podman.default_errno_ret(), Some(38), "the name counts");
    assert_eq!(podman.syscalls().as_ref().unwrap()[0].errno_ret(), Some(13));
    let operator = read_json(&operator).unwrap();
    assert_eq!(operator.name.as_deref(), Some("web"));
    assert_eq!(operator.profile.syscalls[0].errno, Some(13));
    assert_eq!(operator.profile.syscalls[0].pointer, "/spec/syscalls/0");
}

#[test]
fn what_is_refused_says_where() {
    let table: [(&str, &str); 22] = [
        ("", "line 1 column 1: the text ends"),
        ("[]", "no seccomp profile of a known kind"),
        ("{\"linux\": {}}", "without linux.seccomp"),
        (
            "{\n  \"defaultAction\": 3}",
            "line 2 column 20: /defaultAction must be a string, and is a number",
        ),
        (
            "{\"defaultAction\": \"ALLOW\"}",
            "/defaultAction is \"ALLOW\"; it must be a seccomp action",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\",}",
            "line 1 column 36: expected a key in quotes, found '}'",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\"} x",
            "more after the end",
        ),
        (
            "{\"a\": 1,\n \"a\": 2}",
            "line 2 column 2: \"a\" stands here a second time, first at line 1 column 2",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}"#,
            "/syscalls must be a list",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}"#,
            "/syscalls/0 has no \"names\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]}"#,
            "/syscalls/0 has no \"action\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "b", "names": ["a"], "action": "SCMP_ACT_LOG"}]}"#,
            "has both \"name\" and \"names\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a", 7], "action": "SCMP_ACT_LOG"}]}"#,
            "/syscalls/0/names/1 must be a string",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG",
               "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": -1}]}]}"#,
            "line 2 column 68: /syscalls/0/args/0/value is \"-1\"; it must be a whole number from 0 to 18446744073709551615",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG",
               "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 18446744073709551616}]}]}"#,
            "/syscalls/0/args/0/value is \"18446744073709551616\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG",
               "includes": {"caps": ["CAP_EVERYTHING"]}}]}"#,
            "/syscalls/0/includes/caps/0 is \"CAP_EVERYTHING\"; it must be a capability",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG",
               "includes": {"minKernel": "new"}}]}"#,
            "minKernel is \"new\"; it must be a version",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSUCH"}"#,
            "/defaultErrno is \"ENOSUCH\"; it must be an errno",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "archMap":
               [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "has both \"architectures\" and \"archMap\"",
        ),
        (
            r#"{"apiVersion": "security-profiles-operator.x-k8s.io/v1", "kind": "SelinuxProfile"}"#,
            "it is a \"SelinuxProfile\"",
        ),
        ("{\"a\": \"\\ud800\"}", "line 1 column 8: no such escape"),
        ("{\"a\": 01}", "line 1 column 7: not a number"),
    ];
    for (text, expected) in table {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n gives: {error}");
    }
}

#[test]
fn bombs_are_refused() {
    let deep = "[".repeat(1 << 20);
    assert!(matches!(
        read(deep.as_bytes()),
        Err(DialectError::TooDeep { .. })
    ));
    let wide = format!("[{}0]", "0,".repeat(MAX_NODES + 1));
    assert!(matches!(
        read(wide.as_bytes()),
        Err(DialectError::TooMany { .. })
    ));
    let long = vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1];
    assert!(matches!(read(&long), Err(DialectError::TooLong { .. })));
    let latin = read(b"{\n\"\xe9\"").unwrap_err();
    let at = Place { line: 2, column: 2 };
    assert_eq!(latin, DialectError::NotText { at });
}

#[test]
fn unknown_fields_are_told() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoret": 3,
        "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG", "priority": 1,
        "args": [{"index": 0, "op": "SCMP_CMP_EQ", "valuetwo": 1}]}]}"#;
    let unknown = read(text.as_bytes()).unwrap().unknown;
    let pointers: Vec<&str> = unknown
        .iter()
        .map(|(_, pointer)| pointer.as_str())
        .collect();
    let expected = [
        "/syscalls/0/args/0/valuetwo",
        "/syscalls/0/priority",
        "/defaultErrnoret",
    ];
    assert_eq!(pointers, expected);
}

#[test]
fn a_base_must_be_given() {
    let profile = |name: &str, base: Option<&str>, call: &str| {
        json!({"apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
            "kind": "SeccompProfile", "metadata": {"name": name},
            "spec": {"defaultAction": "SCMP_ACT_ERRNO", "baseProfileName": base,
                "syscalls": [{"names": [call], "action": "SCMP_ACT_ALLOW"}]}})
    };
    let own = read_json(&profile("web", Some("runc"), "read")).unwrap();
    let error = own.oci(&USUAL).unwrap_err();
    let name = "runc".to_owned();
    assert_eq!(error, DialectError::BaseNeeded { name });
    let base = read_json(&profile("runc", None, "execve")).unwrap();
    let both = own.with_base(&base).unwrap().oci(&USUAL).unwrap();
    let rules = both.syscalls().as_ref().unwrap();
    let names: Vec<&String> = rules.iter().flat_map(|rule| rule.names()).collect();
    assert_eq!(names, ["execve", "read"]);
    assert_eq!(base.clone().with_base(&base), Err(DialectError::BaseUnused));
}

#[test]
fn docker_and_podman_keep_their_conditions() {
    let document = read(DOCKER.as_bytes()).unwrap();
    for dialect in [Dialect::Docker, Dialect::Podman] {
        let output = Output {
            dialect,
            target: None,
            usual: &USUAL,
            name: "x",
        };
        let again = read(write(&document, &output).unwrap().as_bytes()).unwrap();
        assert_eq!(again.dialect, dialect);
        assert_eq!(again.unknown, []);
        for target in [
            USUAL,
            Target {
                arch: Arch::Aarch64,
                ..USUAL
            },
        ] {
            assert_eq!(again.oci(&target), document.oci(&target));
        }
        let output = Output {
            target: Some(&USUAL),
            ..output
        };
        let resolved = read(write(&document, &output).unwrap().as_bytes()).unwrap();
        assert_eq!(resolved.oci(&USUAL), document.oci(&USUAL));
        assert!(
            resolved
                .profile
                .syscalls
                .iter()
                .all(|rule| rule.includes.is_empty())
        );
    }
}

const OPERATOR: &str = "---
apiVersion: security-profiles-operator.x-k8s.io/v1beta1
kind: SeccompProfile
metadata:
  name: base
spec:
  defaultAction: SCMP_ACT_ERRNO
  syscalls:
  - action: SCMP_ACT_ALLOW
    names: [execve, 'exit_group']
---
apiVersion: security-profiles-operator.x-k8s.io/v1
kind: SeccompProfile
metadata:
  name: web
spec:
  defaultAction: \"SCMP_ACT_ERRNO\"
  baseProfileName: base
  architectures:
  - SCMP_ARCH_X86_64
  syscalls:
  - action: SCMP_ACT_ALLOW
    names:
    - clone
    args:
    - index: 0
      value: 0x7e020000
      valueTwo: 0
      op: SCMP_CMP_MASKED_EQ
";

#[test]
fn the_operators_yaml() {
    let error = read(OPERATOR.as_bytes()).unwrap_err();
    let names = vec!["base".to_owned(), "web".to_owned()];
    assert_eq!(error, DialectError::Several { names });
    let web = read_named(OPERATOR.as_bytes(), Some("web")).unwrap();
    assert_eq!(web.dialect, Dialect::Spo);
    let rules = &web.profile.syscalls;
    assert_eq!(
        rules[0].names,
        ["execve", "exit_group"],
        "the base is in the same file"
    );
    assert_eq!(rules[1].args[0].value(), 0x7e02_0000);
    assert_eq!((rules[1].at.line, rules[1].at.column), (22, 5));
    // Written and read again it is the same.
    let output = Output {
        dialect: Dialect::Spo,
        target: None,
        usual: &USUAL,
        name: "no",
    };
    let text = write(&web, &output).unwrap();
    let again = read(text.as_bytes()).unwrap();
    assert_eq!(again.name.as_deref(), Some("no"));
    assert_eq!(again.oci(&USUAL), web.oci(&USUAL));
    let missing = read_named(OPERATOR.as_bytes(), Some("db"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("base, web"), "{missing}");
}

#[test]
fn yaml_that_is_refused_says_where() {
    let head = "apiVersion: security-profiles-operator.x-k8s.io/v1\nkind: SeccompProfile\n";
    let table = [
        (
            "spec: &a {defaultAction: SCMP_ACT_LOG}",
            "line 3 column 7: anchors",
        ),
        ("spec: *a", "line 3 column"),
        (
            "spec: !x {defaultAction: SCMP_ACT_LOG}",
            "tags (!name) are not read",
        ),
        (
            "spec: {defaultAction: SCMP_ACT_LOG, defaultAction: a}",
            "line 3 column 37: \"defaultAction\" stands",
        ),
        ("spec: {[a]: b}", "lists and objects as keys"),
        (
            "spec: {defaultAction: on}",
            "\"on\"; it must be a seccomp action",
        ),
        ("spec: [a", "line 4 column"),
        ("spec: {}", "/spec has no \"defaultAction\""),
        ("spec:\n\tdefaultAction: a", "line 4"),
    ];
    for (text, expected) in table {
        let error = read(format!("{head}{text}\n").as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{text}\n gives: {error}");
    }
    // Nine levels of nine aliases each.
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let last = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", vec![last; 9].join(", "));
    }
    assert!(matches!(
        read(laughs.as_bytes()),
        Err(DialectError::YamlFeature { .. })
    ));
    let deep = format!("a: {}", "[".repeat(100_000));
    assert!(matches!(
        read(deep.as_bytes()),
        Err(DialectError::TooDeep { .. } | DialectError::Yaml { .. })
    ));
    let wide = "- 1\n".repeat(MAX_NODES + 1);
    assert!(matches!(
        read(wide.as_bytes()),
        Err(DialectError::TooMany { .. })
    ));
}

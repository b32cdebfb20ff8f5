//! Policies that say `apparmor = "generate"`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::harden_tests::{host, plain, spec, with};
use super::model::{ApparmorChoice, BestEffort, Denials, Verdict};
use super::*;
use crate::access::Access;
use crate::apparmor::{Mode, is_ours};

fn generate() -> Policy {
    Policy {
        name: "test".to_owned(),
        apparmor: ApparmorChoice::Generate,
        best_effort: Default::default(),
        ..builtin::baseline()
    }
}

fn able(host: HostFacts) -> HostFacts {
    HostFacts {
        apparmor: true,
        apparmor_compiler: true,
        bundle: PathBuf::from("/run/b/1"),
        ..host
    }
}

fn judged(
    policy: &Policy,
    json: &Value,
    facts: impl Fn(HostFacts) -> HostFacts,
) -> Result<Hardened<Spec>, Refusal> {
    let spec = spec(json);
    let host = facts(able(host(&spec)));
    let mut file = PolicyFile::builtin();
    file.insert(policy.clone());
    let selection = Selection {
        command_line: Some("test".to_owned()),
        ..Selection::default()
    };
    assert!(file.wants_apparmor(&selection, &spec).unwrap());
    harden(spec, &file, &selection, &host)
}

fn named(hardened: &Hardened<Spec>) -> Option<&str> {
    let process = hardened.get().process().as_ref().unwrap();
    process.apparmor_profile().as_deref()
}

fn access(document: Value) -> Result<Access, String> {
    Ok(Access::from_json(document.to_string().as_bytes()).unwrap())
}

#[test]
fn a_made_profile_takes_the_place_of_what_engines_give_everybody() {
    for asked in [json!(null), json!(""), json!("docker-default")] {
        let json = with("/process/apparmorProfile", asked.clone());
        let hardened = judged(&generate(), &json, |host| host).unwrap();
        let profile = hardened.apparmor().unwrap();
        assert_eq!(named(&hardened), Some(profile.name.as_str()), "{asked}");
        assert!(is_ours(&profile.name) && profile.mode == Mode::Enforce);
        // A capability that the container does not get is not in it.
        assert!(
            profile.text.contains("capability chown,"),
            "{}",
            profile.text
        );
        assert!(!profile.text.contains("sys_admin"));
        let mut findings = hardened.report().findings.iter();
        assert!(findings.any(|f| f.rule == Rule::Apparmor && f.action == Action::Added));
        // What joins it gets the same, whatever it asks for.
        let mut process = hardened.get().process().clone().unwrap();
        process.set_apparmor_profile(Some("other".to_owned()));
        let joined = harden_exec(process, &hardened.record()).unwrap();
        let joined = joined.get().apparmor_profile().clone();
        assert_eq!(joined.as_deref(), Some(profile.name.as_str()));
    }
}

#[test]
fn a_profile_that_somebody_chose_is_kept_where_no_document_must_be_followed() {
    let json = with("/process/apparmorProfile", json!("mine"));
    let hardened = judged(&generate(), &json, |host| host).unwrap();
    assert_eq!(named(&hardened), Some("mine"));
    assert!(hardened.apparmor().is_none());
    let strict = Policy {
        apparmor_documents: [PathBuf::from("/d.json")].into(),
        ..generate()
    };
    let refusal = judged(&strict, &json, |host| host).unwrap_err();
    assert_eq!(refusal.rule(), Some(Rule::Apparmor));
    // Unconfined is refused as under other policies, and kept where the policy allows it.
    let json = with("/process/apparmorProfile", json!("unconfined"));
    assert!(judged(&generate(), &json, |host| host).is_err());
    let lax = Policy {
        apparmor_unconfined: Verdict::Allow,
        ..generate()
    };
    let hardened = judged(&lax, &json, |host| host).unwrap();
    assert!(hardened.apparmor().is_none() && named(&hardened).is_none());
}

#[test]
fn what_the_host_lacks_is_refused_unless_that_is_best_effort() {
    let lenient = Policy {
        best_effort: [BestEffort::Apparmor].into(),
        ..generate()
    };
    for (kernel, compiler) in [(false, false), (false, true), (true, false)] {
        let lacking = |host| HostFacts {
            apparmor: kernel,
            apparmor_compiler: compiler,
            ..host
        };
        let refusal = judged(&generate(), &plain(), lacking).unwrap_err();
        assert_eq!(refusal.rule(), Some(Rule::Apparmor));
        let hardened = judged(&lenient, &plain(), lacking).unwrap();
        assert!(hardened.apparmor().is_none() && named(&hardened).is_none());
        let mut findings = hardened.report().findings.iter();
        assert!(findings.any(|f| f.rule == Rule::Apparmor && f.action == Action::Unenforced));
    }
}

#[test]
fn documents_are_followed_all_of_them_or_the_container_is_refused() {
    let (one, two) = (PathBuf::from("/one.json"), PathBuf::from("/two.json"));
    let policy = Policy {
        apparmor_documents: [one.clone(), two.clone()].into(),
        ..generate()
    };
    let usr = json!({"version": 1, "files": [
        {"path": "/usr", "subtree": true, "rights": ["read", "write"]},
        {"path": "/etc/x", "rights": ["read"]},
    ]});
    let bin = json!({"version": 1, "files": [
        {"path": "/usr/bin", "subtree": true, "rights": ["read", "execute"]},
    ]});
    let hardened = judged(&policy, &plain(), |host| HostFacts {
        access: [
            (one.clone(), access(usr.clone())),
            (two.clone(), access(bin.clone())),
        ]
        .into(),
        ..host
    })
    .unwrap();
    let text = &hardened.apparmor().unwrap().text;
    assert!(text.contains("\"/usr/bin{,/**?}\" r,"), "{text}");
    assert!(!text.contains("/etc/x") && !text.contains("file,") && !text.contains("\"/usr{"));
    for broken in [None, Some(Err("it is no document".to_owned()))] {
        let refusal = judged(&policy, &plain(), |host| HostFacts {
            access: [(one.clone(), access(usr.clone()))]
                .into_iter()
                .chain(broken.clone().map(|broken| (two.clone(), broken)))
                .collect(),
            ..host
        })
        .unwrap_err();
        assert_eq!(refusal.rule(), Some(Rule::Apparmor));
        assert!(refusal.to_string().contains("/two.json"), "{refusal}");
    }
}

#[test]
fn complaining_is_reported_as_what_it_is() {
    let policy = Policy {
        apparmor_mode: Mode::Complain,
        ..generate()
    };
    let hardened = judged(&policy, &plain(), |host| host).unwrap();
    assert!(hardened.apparmor().unwrap().text.contains("complain"));
    let mut findings = hardened.report().findings.iter();
    let finding = findings.find(|f| f.rule == Rule::Apparmor).unwrap();
    assert_eq!(finding.action, Action::Unenforced);
}

#[test]
fn where_denials_are_explained_the_profile_is_the_containers_own() {
    let explained = Policy {
        denials: Denials::Explain,
        ..generate()
    };
    let name = |policy: &Policy, bundle: &str| {
        let hardened = judged(policy, &plain(), |host| HostFacts {
            bundle: bundle.into(),
            ..host
        });
        hardened.unwrap().apparmor().unwrap().name.clone()
    };
    assert_eq!(name(&generate(), "/a"), name(&generate(), "/b"));
    assert_ne!(name(&explained, "/a"), name(&explained, "/b"));
    assert_eq!(name(&explained, "/a"), name(&explained, "/a"));
}

#[test]
fn the_file_says_it_and_two_policies_meet_in_the_tighter() {
    let text = "[policy.a]\napparmor = \"generate\"\napparmor_documents = [\"/a\"]\n\
                [policy.b]\nextends = \"a\"\napparmor_documents = [\"/b\"]\n\
                apparmor_mode = \"complain\"\n\
                [policy.c]\napparmor_documents = [\"/c\"]";
    let file = PolicyFile::parse(text, Path::new("p")).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| file.policy(name).unwrap());
    assert_eq!(a.apparmor, ApparmorChoice::Generate);
    assert_eq!(b.apparmor_mode, Mode::Complain);
    let met = a.meet(b);
    assert_eq!(met.apparmor_mode, Mode::Enforce);
    assert_eq!(met.apparmor_documents, ["/a".into(), "/b".into()].into());
    let met = a.meet(c);
    assert_eq!(met.apparmor, ApparmorChoice::Generate);
    assert_eq!(met.apparmor_documents, ["/a".into()].into());
    assert!(PolicyFile::parse("[policy.a]\napparmor_documents = [\"x\"]", Path::new("p")).is_err());
    assert!(PolicyFile::parse("[policy.a]\napparmor = \"off\"", Path::new("p")).is_err());
}

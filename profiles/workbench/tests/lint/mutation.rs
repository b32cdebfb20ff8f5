//! A fault of every kind is put into profiles that people use. What is found then and was not before must be
//! that fault alone.

use std::collections::BTreeMap;

use cofferdam_profiles::capability;
use cofferdam_profiles::seccomp::{Arch, default_profile};
use cofferdam_workbench::lint::{Severity, lint, rules};
use serde_json::{Value, json};

use super::{engine_profiles, fixture, options};

/// What the container engines allow by default, our own default, and a small profile.
fn clean() -> Vec<(&'static str, Value)> {
    let own = default_profile(&capability::ENGINE_DEFAULT.to_oci(), Arch::X86_64);
    let small = std::fs::read_to_string(fixture("CD105.pass.json")).unwrap();
    let mut all: Vec<(&str, Value)> = engine_profiles()
        .into_iter()
        .map(|(name, text)| (name, serde_json::from_str(&text).unwrap()))
        .collect();
    all.push(("our default", serde_json::to_value(own).unwrap()));
    all.push(("a small one", serde_json::from_str(&small).unwrap()));
    for (_, profile) in &mut all {
        // None of them has it, so that a fault of it could not be seen.
        profile["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
    }
    all
}

/// How often each thing is said of a profile.
type Said = BTreeMap<(&'static str, String), usize>;

fn said(profile: &Value) -> Said {
    let text = serde_json::to_string_pretty(profile).unwrap();
    let mut out = BTreeMap::new();
    for finding in lint(text.as_bytes(), &options()).findings {
        *out.entry((finding.rule.id, finding.message)).or_default() += 1;
    }
    out
}

#[test]
fn clean_profiles_have_no_errors() {
    for (name, profile) in clean() {
        let text = serde_json::to_string_pretty(&profile).unwrap();
        let report = lint(text.as_bytes(), &options());
        let errors: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.rule.severity == Severity::Error)
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn a_fault_breaks_its_rule_and_no_other() {
    let profiles = clean();
    let (mut tried, mut there, mut wrong) = (0, Vec::new(), Vec::new());
    for rule in rules() {
        let mut found = 0;
        for (name, profile) in &profiles {
            let before = said(profile);
            let mut faulty = profile.clone();
            inject(rule.id, &mut Patient(&mut faulty));
            let after = said(&faulty);
            // The words for what was there before change with the numbers of rules, its count does not.
            let count = |said: &Said, id: &str| -> usize {
                let own = said.iter().filter(|((own, _), _)| *own == id);
                own.map(|(_, count)| count).sum()
            };
            let others: Vec<&str> = rules()
                .map(|other| other.id)
                .filter(|id| *id != rule.id && count(&after, id) > count(&before, id))
                .collect();
            if !others.is_empty() {
                wrong.push(format!("{} in {name} also breaks {others:?}", rule.name));
            }
            let seen = after.iter().any(|(what, count)| {
                what.0 == rule.id && before.get(what).copied().unwrap_or(0) < *count
            });
            // What is wrong already cannot be put in: Docker's ioctl lets TIOCSTI through as it is.
            if !seen && count(&before, rule.id) > 0 {
                there.push(format!("{} in {name}", rule.id));
                continue;
            }
            tried += 1;
            found += 1;
            if !seen {
                wrong.push(format!("{} is not found in {name}", rule.name));
            }
        }
        if found == 0 {
            wrong.push(format!("{} was put into no profile", rule.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    eprintln!(
        "{tried} faults put in, each found alone; there already: {}",
        there.join(", ")
    );
}

/// A profile that is to be spoilt.
struct Patient<'a>(&'a mut Value);

impl Patient<'_> {
    fn rules(&mut self) -> &mut Vec<Value> {
        self.0["syscalls"].as_array_mut().unwrap()
    }

    fn append(&mut self, rule: Value) {
        self.rules().push(rule);
    }

    /// Takes calls out of every rule.
    fn forget(&mut self, names: &[&str]) {
        for rule in self.rules() {
            let list = rule["names"].as_array_mut().unwrap();
            list.retain(|name| !names.contains(&name.as_str().unwrap()));
        }
        self.rules()
            .retain(|rule| !rule["names"].as_array().unwrap().is_empty());
    }

    /// The only thing that is said of a call.
    fn set(&mut self, name: &str, action: &str, args: Value) {
        self.forget(&[name]);
        self.append(rule(name, action, args));
    }

    /// Refuses calls with ENOSYS, by the default if that does so.
    fn refuse(&mut self, names: &[&str]) {
        self.forget(names);
        if self.0["defaultErrnoRet"] != json!(38) {
            self.append(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
        }
    }

    fn names(&mut self, name: &str) -> bool {
        self.rules()
            .iter()
            .any(|rule| rule["names"].as_array().unwrap().contains(&json!(name)))
    }

    /// A call that the profile does not speak of and that nothing else is like.
    fn fresh(&mut self) -> &'static str {
        let calls = [
            "uselib",
            "nfsservctl",
            "afs_syscall",
            "getpmsg",
            "tuxcall",
            "vserver",
        ];
        calls.into_iter().find(|name| !self.names(name)).unwrap()
    }
}

fn rule(name: &str, action: &str, args: Value) -> Value {
    let mut rule = json!({"names": [name], "action": format!("SCMP_ACT_{action}")});
    if args != json!(null) {
        rule["args"] = args;
    }
    rule
}

fn test(index: u8, op: &str, value: u64) -> Value {
    json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value})
}

fn clone_masked(mask: u64) -> Value {
    json!([{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": 0}])
}

const FALL_BACK: [&str; 7] = [
    "clone3",
    "close_range",
    "faccessat2",
    "fchmodat2",
    "openat2",
    "rseq",
    "statx",
];
const ALL_NAMESPACES: u64 = 0x7e02_0000;

fn inject(id: &str, patient: &mut Patient) {
    match id {
        _ if id < "CD300" => in_a_rule(id, patient),
        _ if id < "CD700" => in_meaning(id, patient),
        _ => in_answers(id, patient),
    }
}

/// Names and conditions.
fn in_a_rule(id: &str, patient: &mut Patient) {
    let fresh = patient.fresh();
    match id {
        "CD001" => patient.append(rule(fresh, "ALOW", json!(null))),
        "CD002" => {
            let mut odd = rule(fresh, "ALLOW", json!(null));
            odd["arguments"] = json!([]);
            patient.append(odd);
        }
        "CD003" => {
            let mut large = rule(fresh, "ALLOW", json!(vec![test(1, "EQ", 1); 200]));
            large["names"] = json!(vec![fresh; 200]);
            patient.append(large);
        }
        "CD004" => {
            for value in 1..=257 {
                patient.append(rule(fresh, "ALLOW", json!([test(1, "EQ", value)])));
            }
        }
        "CD101" => patient.append(rule("opeanat", "ALLOW", json!(null))),
        "CD102" => patient.append(rule("pread", "ALLOW", json!(null))),
        "CD103" => patient.append(rule("spu_run", "ALLOW", json!(null))),
        "CD104" => patient.append(json!({"names": [], "action": "SCMP_ACT_ALLOW"})),
        "CD105" => patient.rules().clear(),
        "CD201" => patient.append(rule(fresh, "ALLOW", json!([test(6, "EQ", 1)]))),
        "CD202" => {
            let twice = json!([test(1, "GT", 1), test(1, "LT", 8)]);
            patient.append(rule(fresh, "ALLOW", twice));
        }
        "CD203" => patient.append(rule(fresh, "ALLOW", json!([test(1, "LT", 0)]))),
        "CD204" => {
            let mut outside = test(1, "MASKED_EQ", 1);
            outside["valueTwo"] = json!(3);
            patient.append(rule(fresh, "ALLOW", json!([outside])));
        }
        "CD205" => patient.set("mkdirat", "ALLOW", json!([test(1, "EQ", 4096)])),
        "CD206" => patient.set("setpriority", "ALLOW", json!([test(1, "EQ", 0xffff_ffff)])),
        "CD207" => {
            let mut odd = rule(fresh, "ERRNO", json!(null));
            odd["errnoRet"] = json!(5000);
            patient.append(odd);
        }
        _ => panic!("no fault for {id}"),
    }
}

/// What rules make of each other, and what they let through.
fn in_meaning(id: &str, patient: &mut Patient) {
    let open = |patient: &mut Patient, name: &str| patient.set(name, "ALLOW", json!(null));
    match id {
        "CD301" => {
            open(patient, "flock");
            patient.append(rule("flock", "ALLOW", json!([test(1, "LT", 8)])));
        }
        "CD302" => patient.append(rule("read", "ALLOW", json!(null))),
        "CD303" => {
            patient.set("flock", "ALLOW", json!([test(1, "LT", 8)]));
            let mut other = rule("flock", "ERRNO", json!([test(1, "GT", 4)]));
            other["errnoRet"] = json!(13);
            patient.append(other);
        }
        "CD304" => {
            let fresh = patient.fresh();
            let mut same = rule(fresh, "ERRNO", json!(null));
            same["errnoRet"] = patient.0["defaultErrnoRet"].clone();
            patient.append(same);
        }
        "CD401" => {
            if patient.0["archMap"].is_null() {
                patient.0["architectures"] = json!(["SCMP_ARCH_X86_64"]);
            } else {
                // The other machines of the map stay, so that their names do.
                patient.0["archMap"][0]["subArchitectures"] = json!([]);
            }
        }
        "CD402" => open(patient, "stime"),
        "CD501" => {
            patient.set("rseq", "ERRNO", json!(null));
            patient.rules().last_mut().unwrap()["errnoRet"] = json!(13);
        }
        "CD502" => {
            patient.0["defaultErrnoRet"] = json!(13);
            patient.0["defaultErrno"] = json!("EACCES");
            let absent: Vec<&str> = FALL_BACK
                .into_iter()
                .filter(|name| !patient.names(name))
                .collect();
            patient.refuse(&absent);
            patient.refuse(&["file_setattr"]);
        }
        "CD601" => {
            patient.set("clone", "ALLOW", clone_masked(ALL_NAMESPACES));
            open(patient, "clone3");
        }
        "CD602" => {
            patient.set(
                "clone",
                "ALLOW",
                clone_masked(ALL_NAMESPACES & !0x1000_0000),
            );
            patient.refuse(&["clone3"]);
        }
        "CD603" => open(patient, "unshare"),
        "CD604" => open(patient, "io_uring_setup"),
        "CD605" => open(patient, "keyctl"),
        "CD606" => open(patient, "socket"),
        "CD607" => open(patient, "ptrace"),
        "CD608" => open(patient, "personality"),
        "CD609" => open(patient, "ioctl"),
        _ => panic!("no fault for {id}"),
    }
}

/// Answers, missing calls, flags.
fn in_answers(id: &str, patient: &mut Patient) {
    let fresh = patient.fresh();
    let flag = |patient: &mut Patient, flag: &str| {
        patient.0["flags"].as_array_mut().unwrap().push(json!(flag));
    };
    match id {
        "CD701" => patient.append(rule(fresh, "NOTIFY", json!(null))),
        "CD702" => {
            patient.append(rule("write", "NOTIFY", json!(null)));
            patient.0["listenerPath"] = json!("/run/agent.sock");
        }
        "CD703" => {
            patient.0["defaultAction"] = json!("SCMP_ACT_NOTIFY");
            for field in ["defaultErrnoRet", "defaultErrno"] {
                patient.0.as_object_mut().unwrap().remove(field);
            }
        }
        "CD704" => patient.append(rule(fresh, "KILL", json!(null))),
        "CD801" => patient.forget(&["exit_group"]),
        "CD802" => patient.forget(&["capset"]),
        "CD803" => patient.forget(&["futex_time64"]),
        "CD901" => flag(patient, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        "CD902" => patient.0["flags"] = json!([]),
        "CD903" => flag(patient, "SECCOMP_FILTER_FLAG_TSYNC"),
        _ => panic!("no fault for {id}"),
    }
}

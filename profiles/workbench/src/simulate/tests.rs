use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::trace;

fn profile() -> LinuxSeccomp {
    serde_json::from_value(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["getpid", "read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["ptrace"], "action": "SCMP_ACT_KILL_PROCESS"},
        ],
    }))
    .unwrap()
}

fn simulate(log: &str) -> Simulation {
    let profile = profile();
    let simulator = Simulator::new(&profile).unwrap();
    let trace = trace::read_with(log.as_bytes(), |name| simulator.tests(name)).unwrap();
    simulator.trace(&trace)
}

#[test]
fn each_answer_has_its_reason() {
    let table = [
        (
            "1 write(1, \"\", 0) = 0",
            Answer::Denied,
            "fails with EPERM",
            "no rule names it",
            "add \"write\" to the names of rule 0",
        ),
        (
            "1 ptrace(PTRACE_TRACEME) = 0",
            Answer::Denied,
            "killed",
            "rule 2 refuses",
            "remove ptrace",
        ),
        (
            "1 socket(AF_UNIX, SOCK_STREAM, 0) = 3",
            Answer::Denied,
            "EPERM",
            "rule 1 names it with",
            "argument 0 == 0x1",
        ),
        (
            "1 socket(AF_NOSUCH, SOCK_STREAM, 0) = 3",
            Answer::Undetermined,
            "argument 0",
            "rule 1 names it",
            "compare rule 1",
        ),
        (
            "1 nosuchcall(1) = 3",
            Answer::Undetermined,
            "number",
            "no rule names it",
            "add",
        ),
        (
            "[ Process PID=1 runs in 32 bit mode. ]\n1 read(1) = 3",
            Answer::Denied,
            "ENOSYS",
            "SCMP_ARCH_X86",
            "add SCMP_ARCH_X86",
        ),
    ];
    for (log, answer, effect, because, remedy) in table {
        let simulation = simulate(log);
        let [finding] = &simulation.findings[..] else {
            panic!("{log}: {simulation:?}")
        };
        assert_eq!(finding.answer, answer, "{log}");
        assert!(finding.effect.contains(effect), "{log}: {}", finding.effect);
        assert!(
            finding.because.contains(because),
            "{log}: {}",
            finding.because
        );
        assert!(finding.remedy.contains(remedy), "{log}: {}", finding.remedy);
    }
}

#[test]
fn what_is_allowed_is_counted() {
    let simulation = simulate(
        "1 getpid() = 1\n1 getpid() = 1\n1 socket(PF_INET, SOCK_RAW, 0) = 1\n1 write(1) = 1\n1 write(2) = 1\n",
    );
    assert_eq!(
        (
            simulation.allowed,
            simulation.denied,
            simulation.undetermined
        ),
        (3, 2, 0)
    );
    assert_eq!(
        (simulation.findings[0].count, simulation.findings[0].line),
        (2, Some(4))
    );
}

#[test]
fn recorded_arguments_are_tried_in_every_combination() {
    let profile = profile();
    let simulator = Simulator::new(&profile).unwrap();
    let mut recording = Recording::default();
    let mut see = |name: &str, count, values: &[u64]| {
        let args =
            (!values.is_empty()).then(|| (0, values.iter().copied().collect::<BTreeSet<_>>()));
        let call = crate::recording::Call {
            count,
            args: args.into_iter().collect(),
        };
        recording.phases.serving.insert(name.to_owned(), call);
    };
    see("socket", 10, &[2, 38]);
    see("getpid", 3, &[]);
    see("x86:getpid", 1, &[]);
    let simulation = simulator.recording(&recording);
    let denied: Vec<_> = simulation
        .findings
        .iter()
        .map(|finding| (finding.syscall.as_str(), finding.args.get(&0).copied()))
        .collect();
    assert_eq!(denied, [("socket", Some(38)), ("getpid", None)]);
    assert_eq!(simulation.allowed, 4);
}

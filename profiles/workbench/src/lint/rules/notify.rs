//! Questions nobody answers, and kills that do not end a process.

use oci_spec::runtime::LinuxSeccompAction as Action;

use crate::lint::finding::Report;
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::Subject;

pub(in crate::lint) const RULES: &[&Rule] = &[&LISTENER, &WRITE, &DEFAULT, &THREAD];

pub(in crate::lint) static LISTENER: Rule = Rule {
    id: "CD701",
    name: "notify-no-listener",
    severity: Severity::Error,
    fixable: false,
    why: "SCMP_ACT_NOTIFY asks an agent at listenerPath. Without one runtimes refuse the profile, since \
          every such call would fail with ENOSYS or hang.",
    fix: "Set listenerPath to the agent's socket, or use another action.",
};

pub(in crate::lint) static WRITE: Rule = Rule {
    id: "CD702",
    name: "notify-write",
    severity: Severity::Error,
    fixable: false,
    why: "The runtime itself writes between attaching the filter and handing its listener over: nobody \
          could answer, and the container never starts (runc refuses it by name).",
    fix: "Use another action for write.",
};

pub(in crate::lint) static DEFAULT: Rule = Rule {
    id: "CD703",
    name: "notify-default",
    severity: Severity::Error,
    fixable: false,
    why: "With SCMP_ACT_NOTIFY as default the calls that hand the listener over would ask it: the \
          container never starts, and runtimes refuse the profile.",
    fix: "Use SCMP_ACT_ERRNO as default, and SCMP_ACT_NOTIFY for named calls.",
};

pub(in crate::lint) static THREAD: Rule = Rule {
    id: "CD704",
    name: "kill-thread",
    severity: Severity::Warning,
    fixable: false,
    why: "SCMP_ACT_KILL and SCMP_ACT_KILL_THREAD end the one thread that made the call; the others wait \
          for its locks for ever, and no exit status tells that something was wrong (seccomp(2)).",
    fix: "Use SCMP_ACT_KILL_PROCESS.",
};

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let draft = subject.draft;
    let profile = &draft.document.profile;
    let kills = |action| matches!(action, Action::ScmpActKill | Action::ScmpActKillThread);
    let default = draft.pointer("defaultAction");
    if profile.default_action == Action::ScmpActNotify {
        let words = "the default asks a listener about the calls that hand it over";
        report.note(&DEFAULT, draft.default_at, default, words);
    } else if kills(profile.default_action) {
        let words = "the default kills the thread, not the process";
        report.note(&THREAD, draft.default_at, default, words);
    }
    let listener = profile
        .listener_path
        .as_ref()
        .is_some_and(|path| !path.is_empty());
    for (entry, places) in draft.entries() {
        let pointer = format!("{}/action", entry.pointer);
        if kills(entry.action) {
            let words = "the rule kills the thread, not the process";
            report.note(&THREAD, places.action, pointer, words);
        } else if entry.action == Action::ScmpActNotify {
            if entry.names.iter().any(|name| name == "write") {
                let words = "the listener would be asked about write";
                report.note(&WRITE, places.action, pointer, words);
            } else if !listener {
                let words = "a listener is asked, but there is no listenerPath";
                report.note(&LISTENER, places.action, pointer, words);
            }
        }
    }
}

//! `checkpoint` and `restore`: refused.
//!
//! A restored process would come with the credentials, filters and descriptors of its image, not
//! with what the policy says now.

use super::{PLAIN, Verb};
use crate::cli::CliError;
use crate::cli::flags::{Flag, Until};

const WHY: &str = "a process restored from an image would not be confined by the policy";

/// So that a caller's flags do not hide the reason behind an error about themselves.
const FLAGS: &[Flag] = &[
    Flag::value("image-path", '\0', "DIR", "accepted, not used"),
    Flag::value("work-path", '\0', "DIR", "accepted, not used"),
    Flag::value("parent-path", '\0', "DIR", "accepted, not used"),
    Flag::value("bundle", 'b', "DIR", "accepted, not used"),
    Flag::value("pid-file", '\0', "FILE", "accepted, not used"),
    Flag::value("console-socket", '\0', "PATH", "accepted, not used"),
    Flag::value("manage-cgroups-mode", '\0', "MODE", "accepted, not used"),
    Flag::value("empty-ns", '\0', "NAMESPACE", "accepted, not used"),
    Flag::value("status-fd", '\0', "FD", "accepted, not used"),
    Flag::value("page-server", '\0', "ADDRESS", "accepted, not used"),
    Flag::value("lsm-profile", '\0', "PROFILE", "accepted, not used"),
    Flag::value("lsm-mount-context", '\0', "CONTEXT", "accepted, not used"),
    Flag::switch("leave-running", '\0', "accepted, not used"),
    Flag::switch("tcp-established", '\0', "accepted, not used"),
    Flag::switch("ext-unix-sk", '\0', "accepted, not used"),
    Flag::switch("shell-job", '\0', "accepted, not used"),
    Flag::switch("lazy-pages", '\0', "accepted, not used"),
    Flag::switch("file-locks", '\0', "accepted, not used"),
    Flag::switch("pre-dump", '\0', "accepted, not used"),
    Flag::switch("auto-dedup", '\0', "accepted, not used"),
    Flag::switch("detach", 'd', "accepted, not used"),
    Flag::switch("no-pivot", '\0', "accepted, not used"),
    Flag::switch("no-subreaper", '\0', "accepted, not used"),
];

pub(super) const CHECKPOINT: Verb = Verb {
    name: "checkpoint",
    summary: "not supported",
    description: "Always fails; the container goes on running.",
    example: "cofferdam checkpoint web-1",
    flags: FLAGS,
    until: Until::TheEnd,
    run: |_, _| {
        Err(CliError::Unsupported {
            what: "checkpoint",
            why: WHY,
        })
    },
    ..PLAIN
};

pub(super) const RESTORE: Verb = Verb {
    name: "restore",
    summary: "not supported",
    description: "Always fails; nothing is created.",
    example: "cofferdam restore web-1",
    flags: FLAGS,
    until: Until::TheEnd,
    run: |_, _| {
        Err(CliError::Unsupported {
            what: "restore",
            why: WHY,
        })
    },
    ..PLAIN
};

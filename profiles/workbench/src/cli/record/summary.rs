//! A recording, told to people.

use std::fmt::Write as _;

use super::Done;
use crate::recording::{Method, Recording, Synthesis};

pub(super) fn summary(done: &Done, made: Option<&Synthesis>) -> String {
    let recording = &done.recording;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}: {} calls in all, {} lost{}",
        recording.name,
        recording.phases.all().len(),
        recording.lost,
        means(recording),
    );
    for (phase, calls) in recording.phases.iter() {
        let names: Vec<&str> = calls.keys().map(String::as_str).collect();
        let _ = writeln!(text, "  {phase:8} {:3}  {}", calls.len(), names.join(" "));
    }
    if !recording.predicted.is_empty() {
        let names: Vec<&str> = recording.predicted.iter().map(String::as_str).collect();
        let count = names.len();
        let _ = writeln!(
            text,
            "  predicted, not observed {count:3}  {}",
            names.join(" ")
        );
    }
    for (path, names) in &recording.executables {
        let _ = writeln!(text, "  {path}: {} calls", names.len());
    }
    capabilities(recording, &mut text);
    files(recording, &mut text);
    for filter in &recording.filters {
        let _ = writeln!(text, "  on meanwhile: {filter}; what it denied is not here");
    }
    if recording.without_new_privileges != 0 {
        text.push_str(
            "  no_new_privs was set: set-user-ID programs ran without their privileges\n",
        );
    }
    if recording.left_running != 0 {
        let _ = writeln!(
            text,
            "  {} processes were still running at the end; what they called since is not here",
            recording.left_running
        );
    }
    for note in made.iter().flat_map(|made| &made.notes) {
        let _ = writeln!(text, "  note: {note}");
    }
    if let Some(status) = done.status.filter(|status| *status != 0) {
        let _ = writeln!(text, "  the command ended with status {status}");
    }
    text
}

fn means(recording: &Recording) -> String {
    let names = recording.methods.iter().map(|method| match method {
        Method::Bpf => "BPF",
        Method::Notify => "seccomp notifications",
    });
    let names: Vec<&str> = names.collect();
    match names[..] {
        [] => String::new(),
        _ => format!("; by {}", names.join(" and ")),
    }
}

fn files(recording: &Recording, text: &mut String) {
    let Some(access) = &recording.access else {
        return;
    };
    let _ = writeln!(text, "  files: {} rules", access.len());
    for (place, grant) in access.files() {
        let below = if place.subtree { " and below" } else { "" };
        let _ = writeln!(text, "    {}{below}: {}", place.path, grant.rights);
    }
    for note in access.notes() {
        let _ = writeln!(text, "    note: {note}");
    }
}

fn capabilities(recording: &Recording, text: &mut String) {
    let names: Vec<&str> = recording.capabilities.keys().map(String::as_str).collect();
    let unseen = match recording.capabilities_unseen {
        0 => String::new(),
        runs if runs == recording.runs => " (could not be seen)".to_owned(),
        runs => format!(" (could not be seen in {runs} of {} runs)", recording.runs),
    };
    let _ = writeln!(text, "  capabilities: {}{unseen}", names.join(" "));
    for (name, needed) in &recording.capabilities_confirmed {
        let how = if *needed {
            "needed: the workload ends otherwise without it"
        } else {
            "not needed: the workload ends the same without it"
        };
        let _ = writeln!(text, "    {name} is {how}");
    }
}

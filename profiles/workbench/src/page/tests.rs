use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;

use super::*;
use crate::recording::{Call, Recording};

fn profile() -> LinuxSeccomp {
    serde_json::from_value(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read", "ptrace"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
        ],
    }))
    .unwrap()
}

fn page() -> Page {
    let mut recording = Recording {
        name: "<b>run</b>".to_owned(),
        runs: 2,
        predicted: ["read", "bpf"].map(str::to_owned).into(),
        ..Recording::default()
    };
    let call = Call {
        count: 7,
        ..Call::default()
    };
    recording
        .phases
        .startup
        .insert("openat".to_owned(), call.clone());
    recording.phases.serving.insert("read".to_owned(), call);
    let analysed = serde_json::from_value(json!({
        "program": "/bin/<script>", "confidence": "high", "kind": "native",
        "syscalls": {"socket": {"certainty": "constant", "path": ["main", "<img src=x onerror=alert(1)>"]}},
    }))
    .unwrap();
    Page::new("a & b", &profile(), &[recording], &[analysed]).unwrap()
}

fn row<'a>(page: &'a Page, name: &str) -> &'a Row {
    page.rows.iter().find(|row| row.name == name).unwrap()
}

#[test]
fn rows_hold_profile_recording_and_analysis_together() {
    let page = page();
    assert!(page.rows.len() > 300, "every call of the machine");
    assert_eq!(row(&page, "read").decided, Decided::Allowed);
    assert_eq!(
        row(&page, "read").observed.as_ref().unwrap().phases,
        ["serving"]
    );
    assert!(
        matches!(&row(&page, "socket").decided, Decided::Conditional(when) if when.contains("arg0 == 2"))
    );
    assert_eq!(row(&page, "socket").reached.as_ref().unwrap().path.len(), 2);
    assert!(row(&page, "openat").is_missing() && !row(&page, "read").is_missing());
    assert!(row(&page, "ptrace").is_unused() && row(&page, "ptrace").danger.is_some());
    // What a recording predicted may have been made unseen.
    assert!(row(&page, "bpf").reached.is_some() && !row(&page, "bpf").is_unused());
    assert!(!row(&page, "mount").is_unused() && !row(&page, "mount").is_missing());
}

#[test]
fn the_page_shows_it_and_runs_nothing() {
    let html = page().html();
    for wanted in [
        "a &amp; b",
        "7 times, start-up",
        "if arg0 == 2",
        "Recording",
        "id=\"missing\"",
        "other processes",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    for hostile in [
        "<script",
        "<img",
        "<b>run",
        "javascript:",
        "http://",
        "https://",
        "<a ",
    ] {
        assert!(!html.contains(hostile), "{hostile}");
    }
    assert_eq!(
        html.matches("<tr ").count(),
        html.matches("</tr>").count() - html.matches("<thead>").count()
    );
}

#[test]
fn without_sources_nothing_is_called_unused() {
    let html = Page::new("x", &profile(), &[], &[]).unwrap().html();
    assert!(html.contains("nothing is known of what the") && !html.contains("id=\"unused\""));
}

#[test]
fn long_paths_are_cut_in_the_middle() {
    let path: Vec<String> = (0..100).map(|step| format!("f{step}")).collect();
    let (head, tail) = cut(&path);
    assert_eq!(
        (head[0].as_str(), tail.unwrap().last().unwrap().as_str()),
        ("f0", "f99")
    );
    assert!(head.len() + tail.unwrap().len() <= MAX_STEPS);
}

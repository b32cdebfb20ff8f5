//! Ids that are no names, and command lines that make no sense.

use super::super::harness::Bench;
use super::check;

#[test]
fn ids_that_are_no_names_are_refused() {
    let huge = "x".repeat(5000);
    for (id, expected) in [
        ("", "cannot be empty"),
        ("..", "invalid container id"),
        (".", "invalid container id"),
        ("../escape", "invalid container id"),
        ("a/b", "invalid container id"),
        ("/etc", "invalid container id"),
        ("a b", "invalid container id"),
        ("a\nb", "invalid container id"),
        ("caf\u{e9}", "invalid container id"),
        (&huge, "1024"),
    ] {
        let bench = Bench::new(&["/bin/true"]);
        for verb in [
            "create", "run", "start", "state", "kill", "delete", "pause", "resume", "ps",
        ] {
            check(&bench, verb, &bench.run(&[verb, id]), expected);
        }
        assert!(!bench.path("escape").exists(), "{id:?} escaped the root");
    }
}

#[test]
fn wrong_command_lines_are_explained() {
    let bench = Bench::new(&["/bin/true"]);
    let unknown = format!(
        "container nosuch does not exist below {};",
        bench.root().display()
    );
    for (words, code, expected) in [
        (&["frobnicate"][..], 3, "frobnicate"),
        (&["create"], 1, "requires exactly 1 argument(s)"),
        (&["create", "a", "b"], 1, "requires exactly 1 argument(s)"),
        (
            &["create", "--nosuch", "a"],
            1,
            "flag provided but not defined: -nosuch",
        ),
        (
            &["create", "--bundle"],
            1,
            "flag needs an argument: -bundle",
        ),
        (
            &["create", "--preserve-fds", "many", "a"],
            1,
            "preserve-fds",
        ),
        (&["create", "--preserve-fds", "-1", "a"], 1, "preserve-fds"),
        (
            &["create", "--preserve-fds", "900", "a"],
            1,
            "doesn't exist",
        ),
        (&["create", "--no-pivot=perhaps", "a"], 1, "no-pivot"),
        (
            &["create", "--console-socket", "/no/socket", "a"],
            1,
            "console socket",
        ),
        (&["--log-format", "xml", "list"], 1, "log-format"),
        (&["--rootless", "perhaps", "list"], 1, "rootless"),
        (
            &["--policy", "no-such-policy", "create", "a"],
            1,
            "no-such-policy",
        ),
        (&["list", "--format", "xml"], 1, "format"),
        (&["kill", "nosuch", "NOSIG"], 1, "unknown signal"),
        (&["events", "--interval", "0s", "nosuch"], 1, "interval"),
        (&["update", "--memory", "lots", "nosuch"], 1, "memory"),
        (&["exec"], 1, "requires a minimum of 1 argument(s)"),
        (&["exec", "nosuch", "true"], 255, &*unknown),
        (&["state", "nosuch"], 1, &*unknown),
        (
            &["checkpoint", "--image-path", "x", "nosuch"],
            1,
            "not supported",
        ),
        (&["restore", "nosuch"], 1, "not supported"),
        (
            &["policy", "check", "/no/such/policy.toml"],
            1,
            "/no/such/policy.toml",
        ),
        (&["policy", "show", "no-such-policy"], 1, "no-such-policy"),
        (
            &["--policy-file", "/no/such/policy.toml", "policy", "show"],
            1,
            "cannot read the policy file /no/such/policy.toml",
        ),
        (&["spec"], 1, "exists"),
    ] {
        let got = bench.run(words);
        assert_eq!(got.code(), code, "{words:?}: {got:?}");
        assert_eq!(got.stderr.lines().count(), 1, "{words:?}: {}", got.stderr);
        assert!(got.stderr.contains(expected), "{words:?}: {}", got.stderr);
        bench.assert_nothing_left(&format!("{words:?}"));
    }
}

/// The built-in policies in its place could be laxer.
#[test]
fn a_policy_file_that_the_environment_names_must_be_there() {
    let bench = Bench::new(&["/bin/true"]);
    let with = |file: &str, words: &[&str]| {
        let mut command = bench.command(words);
        command.env("COFFERDAM_POLICY_FILE", file);
        bench.finish(command)
    };
    let missing = bench.path("missing.toml");
    let expected = format!("cannot read the policy file {}", missing.display());
    for words in [&["policy", "show"][..], &["run", "named"]] {
        let got = with(missing.to_str().unwrap(), words);
        assert_eq!(got.code(), 1, "{words:?}: {got:?}");
        assert!(got.stderr.contains(&expected), "{words:?}: {got:?}");
        bench.assert_nothing_left(&format!("{words:?}"));
    }
    // An empty variable names nothing.
    let got = with("", &["policy", "show", "baseline"]);
    assert_eq!(got.code(), 0, "{got:?}");
}

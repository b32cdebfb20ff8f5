//! The help of the command line and of every verb, rendered from their tables.

use std::fmt::Write as _;

use super::flags::Flag;
use super::verbs::{GLOBAL_FLAGS, VERBS, Verb};

/// `cofferdam --help`.
pub(crate) fn general() -> String {
    let mut text = String::from(
        "cofferdam - runs OCI containers under a policy that hardens them\n\n\
         USAGE:\n   cofferdam [global options] command [command options] [arguments...]\n\n\
         A bundle is a directory with a config.json and a root file system. The policy decides\n\
         what the bundle gets of what it asks for; `cofferdam policy explain` shows it without\n\
         starting anything.\n\n\
         EXAMPLE:\n   cofferdam run --bundle /containers/web web-1\n\nCOMMANDS:\n",
    );
    for verb in VERBS.iter().filter(|verb| !verb.hidden) {
        // Writing to a String cannot fail; so below.
        let _ = writeln!(text, "   {:<11} {}", verb.name, verb.summary);
    }
    text.push_str("\nGLOBAL OPTIONS:\n");
    options(&mut text, GLOBAL_FLAGS);
    text.push_str("   --help, -h               show help\n");
    text
}

/// `cofferdam VERB --help`.
pub(crate) fn of(verb: &Verb) -> String {
    let mut text = format!(
        "cofferdam {} - {}\n\nUSAGE:\n   cofferdam {}",
        verb.name, verb.summary, verb.name
    );
    if !verb.flags.is_empty() {
        text.push_str(" [command options]");
    }
    if !verb.arguments.is_empty() {
        let _ = write!(text, " {}", verb.arguments);
    }
    text.push_str("\n\n");
    let _ = writeln!(text, "{}\n\nEXAMPLE:", verb.description);
    for line in verb.example.lines() {
        let _ = writeln!(text, "   {line}");
    }
    if !verb.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
        options(&mut text, verb.flags);
    }
    text
}

fn options(text: &mut String, flags: &[Flag]) {
    for flag in flags {
        let mut left = format!("--{}", flag.name);
        if !flag.value.is_empty() {
            let _ = write!(left, " {}", flag.value);
        }
        if flag.letter != '\0' {
            let _ = write!(left, ", -{}", flag.letter);
        }
        let _ = writeln!(text, "   {left:<24} {}", flag.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_an_example_of_itself() {
        for verb in VERBS {
            assert!(of(verb).contains("EXAMPLE:\n   "), "{}", verb.name);
            assert!(verb.example.contains(verb.name), "{}", verb.name);
        }
    }

    #[test]
    fn the_tables_are_sound() {
        let mut names: Vec<_> = VERBS.iter().map(|v| v.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VERBS.len(), "a verb stands twice");
        for (owner, flags) in VERBS
            .iter()
            .map(|v| (v.name, v.flags))
            .chain([("", GLOBAL_FLAGS)])
        {
            for (i, a) in flags.iter().enumerate() {
                for b in flags.iter().skip(i + 1) {
                    assert_ne!(a.name, b.name, "{owner}");
                    assert!(
                        a.letter == '\0' || a.letter != b.letter,
                        "{owner} -{}",
                        a.letter
                    );
                }
            }
        }
    }
}

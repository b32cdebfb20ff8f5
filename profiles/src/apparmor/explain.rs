//! Why something was denied, and what would allow it.

use oci_spec::runtime::Capability;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::audit::{Message, Verdict};
use crate::access::{AccessPath, Right, Rights};
use crate::capability;

/// What a message means, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meaning {
    /// What was tried, in words.
    pub tried: String,
    /// Why it was denied.
    pub why: String,
    /// What would allow it, in words.
    pub edit: String,
    /// The rule to add to the access document, where a rule of one would allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Value>,
}

/// What every profile of ours denies by name, whatever is done with it; see `text.rs`.
const HIDDEN: &[&str] = &[
    "/proc/kcore",
    "/proc/kmem",
    "/proc/mem",
    "/proc/sysrq-trigger",
    "/sys/firmware/",
    "/sys/devices/virtual/powercap/",
    "/sys/kernel/security/",
];

/// What is below these is denied by name only for writing.
const KERNEL: &[&str] = &["/proc/", "/sys/"];

/// What of it is not.
const OPEN: &[&str] = &[
    "/sys/fs/cgroup/",
    "/proc/sys/net/",
    "/proc/sys/fs/mqueue/",
    "/proc/sys/kernel/msg",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/shm",
];

/// Says what a message means.
pub fn explain(message: &Message) -> Meaning {
    if let Some(name) = &message.capability {
        return capability_denied(name);
    }
    match message.operation.as_str() {
        "signal" => neighbour(message, "signal"),
        "ptrace" => neighbour(message, "ptrace"),
        "mount" | "umount" | "remount" | "pivotroot" => {
            let place = message.name.as_deref().map(shown).unwrap_or_default();
            Meaning {
                tried: format!("{} {place}", message.operation),
                why: "a container without CAP_SYS_ADMIN has no rule to mount".to_owned(),
                edit:
                    "have the engine mount it, or give the container CAP_SYS_ADMIN (the policy's \
                       capabilities.bounding)"
                        .to_owned(),
                add: None,
            }
        }
        _ if message.family.is_some() => socket(message),
        _ => match &message.name {
            Some(name) => file(message, name),
            None => Meaning {
                tried: message.operation.clone(),
                why: "no rule of the profile allows it".to_owned(),
                edit: "no edit of an access document allows it".to_owned(),
                add: None,
            },
        },
    }
}

fn capability_denied(name: &str) -> Meaning {
    let known = capability::parse(name);
    let shown = known.map_or_else(
        || super::explain::shown(name.as_bytes()),
        |known: Capability| format!("CAP_{known}"),
    );
    Meaning {
        tried: format!("what takes {shown}"),
        why: "the container does not have the capability".to_owned(),
        edit: format!(
            "give the container {shown} (docker run --cap-add); the policy must allow it in \
             capabilities.bounding"
        ),
        add: None,
    }
}

fn neighbour(message: &Message, what: &str) -> Meaning {
    let peer = message.peer.as_deref().unwrap_or("another process");
    let kind = message.signal.as_deref().unwrap_or_default();
    Meaning {
        tried: format!(
            "{what} {kind} ({}), {}",
            message.denied,
            shown(peer.as_bytes())
        )
        .replace("  ", " "),
        why: "the profile allows it among the container's own processes".to_owned(),
        edit: "no edit of an access document allows it; an engine can name a profile of yours \
               (--security-opt apparmor=NAME)"
            .to_owned(),
        add: None,
    }
}

fn socket(message: &Message) -> Meaning {
    let family = message.family.as_deref().unwrap_or_default();
    let kind = message.socket.as_deref().unwrap_or_default();
    Meaning {
        tried: format!("{} a socket {family} {kind}", message.operation),
        why: "the access document does not list the family, or says \"raw\": false".to_owned(),
        edit: format!(
            "add {:?} to network.families of the access document{}",
            shown(family.as_bytes()),
            if kind == "raw" || family == "packet" {
                ", and say \"raw\": true"
            } else {
                ""
            }
        ),
        add: None,
    }
}

/// The rights that the kernel's letters stand for.
fn rights(letters: &str, directory: bool) -> Rights {
    let mut rights = Rights::NONE;
    for letter in letters.chars() {
        rights |= match letter {
            'r' if directory => Right::List.into(),
            'r' => Right::Read.into(),
            'w' | 'a' => Right::Write.into(),
            'c' => Right::Create.into(),
            'd' => Right::Remove.into(),
            'l' => Right::Create.into(),
            'k' => Right::Lock.into(),
            'm' => Right::MapExecute.into(),
            'x' => Right::Execute.into(),
            _ => Rights::NONE,
        };
    }
    rights
}

fn file(message: &Message, name: &[u8]) -> Meaning {
    let tried = format!("{} {} ({})", message.operation, shown(name), message.denied);
    if by_name(name, &message.denied) {
        return Meaning {
            tried,
            why: "it is one of the kernel's own files, which generated profiles deny by name"
                .to_owned(),
            edit: "no rule of an access document allows it; an engine can name a profile of yours \
                   (--security-opt apparmor=NAME)"
                .to_owned(),
            add: None,
        };
    }
    let why = match message.verdict {
        Verdict::Denied => "no rule of the profile allows it",
        Verdict::Allowed => "no rule of the profile allows it; the profile complains only",
    };
    let add = rule(message, name);
    let edit = match &add {
        Some(_) => "add to `files` of the access document",
        None => "no rule of an access document can name it",
    };
    Meaning {
        tried,
        why: why.to_owned(),
        edit: edit.to_owned(),
        add,
    }
}

/// Whether every profile of ours denies it, whatever a document says.
fn by_name(name: &[u8], letters: &str) -> bool {
    let begins = |list: &[&str]| list.iter().any(|p| name.starts_with(p.as_bytes()));
    if begins(HIDDEN) {
        return true;
    }
    let of_process = name
        .strip_prefix(b"/proc/")
        .and_then(<[u8]>::first)
        .is_some_and(u8::is_ascii_digit);
    let writes = letters.contains(['w', 'a', 'c', 'd', 'l']);
    writes && begins(KERNEL) && !begins(OPEN) && !of_process
}

/// The smallest rule that allows it.
fn rule(message: &Message, name: &[u8]) -> Option<Value> {
    let directory = name.len() > 1 && name.ends_with(b"/");
    let path = AccessPath::new(name).ok()?;
    let rights = rights(&message.denied, directory);
    if rights.is_empty() {
        return None;
    }
    Some(json!({"path": path, "rights": rights}))
}

/// Bytes that a container chose, made fit for logs and terminals.
pub fn shown(bytes: &[u8]) -> String {
    crate::policy::text::harmless(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::audit::parse;
    use super::*;

    fn meaning(words: &str) -> Meaning {
        let text = format!("audit(1.000:1): apparmor=\"DENIED\" profile=\"p\" {words}");
        explain(&parse(text.as_bytes()).expect("a message"))
    }

    #[test]
    fn the_smallest_rule_is_named() {
        for (words, rule) in [
            (
                "operation=\"open\" name=\"/data/x\" denied_mask=\"wc\"",
                json!({"path": "/data/x", "rights": ["write", "create"]}),
            ),
            (
                "operation=\"open\" name=\"/data/\" denied_mask=\"r\"",
                json!({"path": "/data", "rights": ["list"]}),
            ),
            (
                "operation=\"unlink\" name=\"/data/x\" denied_mask=\"d\"",
                json!({"path": "/data/x", "rights": ["remove"]}),
            ),
            (
                "operation=\"exec\" name=\"/bin/x\" denied_mask=\"x\"",
                json!({"path": "/bin/x", "rights": ["execute"]}),
            ),
            (
                "operation=\"file_mmap\" name=\"/lib/x\" denied_mask=\"m\"",
                json!({"path": "/lib/x", "rights": ["map-execute"]}),
            ),
        ] {
            let meaning = meaning(words);
            assert_eq!(meaning.add, Some(rule), "{words}");
        }
        // A rule that the document's reader takes.
        let add = meaning("operation=\"open\" name=2FFF22 denied_mask=\"r\"").add;
        let document = json!({"version": 1, "files": [add]}).to_string();
        let access = crate::access::Access::from_json(document.as_bytes()).expect("a document");
        let path = AccessPath::new(b"/\xff\"").expect("a path");
        assert!(access.rights_at(&path).has(Right::Read));
    }

    #[test]
    fn what_no_rule_allows_is_said() {
        let capable = meaning("operation=\"capable\" capname=\"sys_admin\"");
        assert!(capable.edit.contains("CAP_SYS_ADMIN"), "{capable:?}");
        let signal =
            meaning("operation=\"signal\" denied_mask=\"send\" signal=kill peer=\"unconfined\"");
        assert_eq!(signal.tried, "signal kill (send), unconfined");
        let mount = meaning("operation=\"mount\" name=\"/mnt/\" fstype=\"tmpfs\"");
        assert!(mount.edit.contains("CAP_SYS_ADMIN"), "{mount:?}");
        let raw = meaning("operation=\"create\" family=\"inet\" sock_type=\"raw\"");
        assert!(raw.edit.contains("\"raw\": true"), "{raw:?}");
        for meaning in [capable, signal, mount, raw] {
            assert_eq!(meaning.add, None);
        }
    }

    #[test]
    fn what_is_denied_by_name_has_no_rule_that_would_allow_it() {
        for (name, letters, by_name) in [
            ("/proc/kcore", "r", true),
            ("/sys/firmware/x", "r", true),
            ("/sys/kernel/y", "wc", true),
            ("/proc/sys/vm/z", "w", true),
            ("/sys/kernel/y", "r", false),
            ("/sys/fs/cgroup/a", "w", false),
            ("/proc/7/oom_score_adj", "w", false),
            ("/proc/sys/net/core/somaxconn", "w", false),
        ] {
            let words = format!("operation=\"open\" name=\"{name}\" denied_mask=\"{letters}\"");
            assert_eq!(meaning(&words).add.is_none(), by_name, "{name} {letters}");
        }
    }

    #[test]
    fn what_could_drive_a_terminal_is_escaped() {
        let meaning = meaning("operation=\"open\" name=2F1B5B324A denied_mask=\"r\"");
        assert!(!meaning.tried.contains('\u{1b}'), "{}", meaning.tried);
    }
}

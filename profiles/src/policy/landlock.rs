//! What Landlock bounds, in policies and annotations.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::text::harmless;
use crate::access::{Network, Ports, Scope};

/// The annotation that asks Landlock to bound a container. Its value is words with commas or spaces:
/// `mounts`, `signals`, `abstract-sockets`, `tcp-bind=PORT:PORT`, `tcp-connect=PORT`, and `off`.
pub const LANDLOCK_ANNOTATION: &str = "cofferdam.dev/landlock";

const KNOWN: &str = "off, or words of mounts, signals, abstract-sockets, tcp-bind=PORT:PORT..., \
                     tcp-connect=PORT:PORT... (without a port: none)";

/// The longest value of the annotation, in bytes.
const MAX_ANNOTATION: usize = 4096;

/// Whether Landlock bounds files; the tightest comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileAccess {
    /// To what follows from the spec's root, mounts and devices.
    Mounts,
    /// No.
    #[default]
    Off,
}

/// What Landlock bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LandlockRules {
    /// Whether files are bounded by the spec; they are, too, where there are `documents`.
    pub files: FileAccess,
    /// Access documents: what all of them and the spec allow is allowed.
    pub documents: BTreeSet<PathBuf>,
    /// TCP ports to listen on.
    pub tcp_bind: Ports,
    /// TCP ports to connect to.
    pub tcp_connect: Ports,
    /// What is kept inside.
    pub scope: Scope,
}

impl LandlockRules {
    /// Whether files are bounded.
    pub fn bounds_files(&self) -> bool {
        self.files == FileAccess::Mounts || !self.documents.is_empty()
    }

    /// Whether nothing is bounded.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// What these rules say of sockets.
    pub(crate) fn network(&self) -> Option<Network> {
        let network = Network {
            tcp_bind: self.tcp_bind.clone(),
            tcp_connect: self.tcp_connect.clone(),
            ..Network::default()
        };
        (network != Network::default()).then_some(network)
    }

    /// What both allow.
    pub(super) fn meet(&self, other: &Self) -> Self {
        Self {
            files: self.files.min(other.files),
            documents: &self.documents | &other.documents,
            tcp_bind: self.tcp_bind.intersection(&other.tcp_bind),
            tcp_connect: self.tcp_connect.intersection(&other.tcp_connect),
            scope: self.scope.intersection(other.scope),
        }
    }

    /// What the annotations ask for.
    pub(super) fn asked(
        annotations: Option<&HashMap<String, String>>,
    ) -> Result<Option<Self>, Refusal> {
        let Some(value) = annotations.and_then(|all| all.get(LANDLOCK_ANNOTATION)) else {
            return Ok(None);
        };
        let rules = (value.len() <= MAX_ANNOTATION).then(|| parse(value));
        rules
            .flatten()
            .map(Some)
            .ok_or_else(|| Refusal::AnnotationValue {
                key: LANDLOCK_ANNOTATION,
                value: harmless(value),
                known: KNOWN,
            })
    }
}

fn parse(value: &str) -> Option<LandlockRules> {
    let mut rules = LandlockRules::default();
    let words = value.split([',', ' ']);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    if words == ["off"] {
        return Some(rules);
    }
    for word in &words {
        match word.split_once('=') {
            None if *word == "mounts" => rules.files = FileAccess::Mounts,
            None if *word == "signals" => rules.scope.signals = true,
            None if *word == "abstract-sockets" => rules.scope.abstract_sockets = true,
            Some(("tcp-bind", list)) => rules.tcp_bind = ports(list)?,
            Some(("tcp-connect", list)) => rules.tcp_connect = ports(list)?,
            _ => return None,
        }
    }
    (!words.is_empty()).then_some(rules)
}

fn ports(list: &str) -> Option<Ports> {
    let ports = list.split(':').filter(|port| !port.is_empty());
    let ports = ports.map(|port| port.parse().ok()).collect::<Option<_>>()?;
    Some(Ports::Only(ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_words() {
        for (value, expected) in [
            ("off", Some(LandlockRules::default())),
            (
                "mounts, signals,abstract-sockets",
                Some(LandlockRules {
                    files: FileAccess::Mounts,
                    scope: Scope {
                        signals: true,
                        abstract_sockets: true,
                    },
                    ..LandlockRules::default()
                }),
            ),
            (
                "tcp-bind=80:443 tcp-connect=",
                Some(LandlockRules {
                    tcp_bind: Ports::Only(BTreeSet::from([80, 443])),
                    tcp_connect: Ports::Only(BTreeSet::new()),
                    ..LandlockRules::default()
                }),
            ),
            ("", None),
            (", ", None),
            ("off,mounts", None),
            ("mount", None),
            ("tcp-bind=65536", None),
            ("tcp-bind=80-90", None),
            ("files=/etc", None),
        ] {
            assert_eq!(parse(value), expected, "{value:?}");
        }
        let long = HashMap::from([(
            LANDLOCK_ANNOTATION.to_owned(),
            "mounts,".repeat(MAX_ANNOTATION),
        )]);
        let error = LandlockRules::asked(Some(&long)).expect_err("too long");
        assert!(matches!(error, Refusal::AnnotationValue { .. }));
    }
}

//! The JSON form, its bounds and its reader.

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Access, AccessPath, Confidence, MAX_RULES, Network, Place, Rights, Scope, Source};

/// The version of the form.
pub const VERSION: u32 = 1;

/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// The most notes that are kept.
pub const MAX_NOTES: usize = 64;

/// The longest note, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// Why something is no access document.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// More rules than a model has.
    #[error(
        "file access needs more than {MAX_RULES} rules; allow whole directories (\"subtree\": true) \
         instead of their files"
    )]
    TooManyRules,
    /// More bytes than a document has.
    #[error("an access document has at most {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// It is not JSON, or not of this form.
    #[error("cannot read an access document")]
    Form(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confidence: Option<Confidence>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(default)]
    files: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    #[serde(default, skip_serializing_if = "Scope::is_open")]
    scope: Scope,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    path: AccessPath,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    subtree: bool,
    rights: Rights,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    from: BTreeSet<Source>,
}

/// At most [`MAX_NOTE_BYTES`] of a note.
pub(super) fn bounded(mut note: String) -> String {
    let mut end = note.len().min(MAX_NOTE_BYTES);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.truncate(end);
    note
}

impl Access {
    /// Reads a document; more than its bounds is refused.
    pub fn from_json(text: &[u8]) -> Result<Self, AccessError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(AccessError::TooLarge);
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// Writes the document, with a line's end.
    pub fn to_json(&self) -> Result<String, AccessError> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }
}

impl Serialize for Access {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let files = self.files().map(|(place, grant)| Rule {
            path: place.path.clone(),
            subtree: place.subtree,
            rights: grant.rights,
            from: grant.from.clone(),
        });
        Document {
            version: VERSION,
            confidence: self.confidence,
            notes: self.notes.clone(),
            files: files.collect(),
            network: self.network.clone(),
            scope: self.scope,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        if document.version != VERSION {
            let message = format!("version {} is not {VERSION}", document.version);
            return Err(D::Error::custom(message));
        }
        let mut access = Self {
            network: document.network,
            scope: document.scope,
            confidence: document.confidence,
            ..Self::default()
        };
        for rule in document.files {
            let subtree = rule.subtree;
            let path = rule.path;
            // A rule that nobody claims was written by hand.
            let from = if rule.from.is_empty() {
                BTreeSet::from([Source::Policy])
            } else {
                rule.from
            };
            access
                .grant(Place { path, subtree }, rule.rights, &from)
                .map_err(D::Error::custom)?;
        }
        for note in document.notes {
            access.note(note);
        }
        Ok(access)
    }
}

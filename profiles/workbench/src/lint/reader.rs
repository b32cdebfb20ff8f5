//! Reads values one by one: each that is of the wrong kind is a finding, and the rest is read on.

use serde::de::DeserializeOwned;

use super::finding::Report;
use super::rules::shape::MALFORMED;
use crate::dialect::node::{Key, Node, Value};
use crate::dialect::{Place, errno};

/// Collects what could not be read.
pub(super) struct Reader<'r> {
    pub(super) report: &'r mut Report,
}

/// An object with its pointer.
pub(super) struct Object<'a> {
    pub(super) at: Place,
    pub(super) pointer: String,
    pub(super) fields: &'a [(Key, Node)],
}

impl<'a> Object<'a> {
    /// A field; `null` counts as missing, as in Go's decoder.
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        let (_, node) = self.fields.iter().find(|(key, _)| key.name == name)?;
        (node.value != Value::Null).then_some(node)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn pointer_to(&self, name: &str) -> String {
        format!("{}/{name}", self.pointer)
    }
}

impl<'r> Reader<'r> {
    pub(super) fn new(report: &'r mut Report) -> Self {
        Self { report }
    }

    fn wrong(&mut self, node: &Node, pointer: &str, wanted: &str) {
        let found = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => text.chars().take(40).collect(),
            Value::Text(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "an object".to_owned(),
        };
        let words = format!("expected {wanted}, found {found}");
        self.report.note(&MALFORMED, node.at, pointer, words);
    }

    pub(super) fn object<'a>(&mut self, node: &'a Node, pointer: &str) -> Option<Object<'a>> {
        match &node.value {
            Value::Map(fields) => Some(Object {
                at: node.at,
                pointer: pointer.to_owned(),
                fields,
            }),
            _ => {
                self.wrong(node, pointer, "an object");
                None
            }
        }
    }

    /// A field that must be there.
    pub(super) fn need<'a>(&mut self, object: &Object<'a>, name: &str) -> Option<&'a Node> {
        let found = object.get(name);
        if found.is_none() {
            let words = format!("there is no {name:?}");
            self.report
                .note(&MALFORMED, object.at, object.pointer.clone(), words);
        }
        found
    }

    /// The elements of a field that is a list, each with its pointer.
    pub(super) fn list<'a>(&mut self, object: &Object<'a>, name: &str) -> Vec<(&'a Node, String)> {
        let Some(node) = object.get(name) else {
            return Vec::new();
        };
        let pointer = object.pointer_to(name);
        let Value::List(list) = &node.value else {
            self.wrong(node, &pointer, "a list");
            return Vec::new();
        };
        let element = |(at, node)| (node, format!("{pointer}/{at}"));
        list.iter().enumerate().map(element).collect()
    }

    pub(super) fn string(&mut self, node: &Node, pointer: &str) -> Option<String> {
        let text = node.text();
        if text.is_none() {
            self.wrong(node, pointer, "a string");
        }
        text.map(str::to_owned)
    }

    /// A field that is a string, if it is there.
    pub(super) fn text(&mut self, object: &Object, name: &str) -> Option<String> {
        self.string(object.get(name)?, &object.pointer_to(name))
    }

    /// A whole number of 64 bits.
    pub(super) fn number(&mut self, node: &Node, pointer: &str) -> Option<u64> {
        let number = match &node.value {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(
                node,
                pointer,
                "a whole number from 0 to 18446744073709551615",
            );
        }
        number
    }

    /// A string that stands for one of the values of `T`, by the OCI specification's names.
    pub(super) fn named<T: DeserializeOwned>(
        &mut self,
        node: &Node,
        pointer: &str,
        wanted: &str,
    ) -> Option<T> {
        let text = node
            .text()
            .map(|text| serde_json::Value::String(text.to_owned()));
        let value = text.and_then(|text| serde_json::from_value(text).ok());
        if value.is_none() {
            self.wrong(node, pointer, wanted);
        }
        value
    }

    /// A field that is a list of such strings.
    pub(super) fn names<T: DeserializeOwned>(
        &mut self,
        object: &Object,
        name: &str,
        wanted: &str,
    ) -> Vec<(Place, T)> {
        let mut out = Vec::new();
        for (node, pointer) in self.list(object, name) {
            out.extend(
                self.named(node, &pointer, wanted)
                    .map(|value| (node.at, value)),
            );
        }
        out
    }

    /// An errno by number, or by the name that Podman writes beside it, which there goes first.
    pub(super) fn errno(&mut self, object: &Object, number: &str, name: &str) -> Option<u32> {
        let by_number = object.get(number).and_then(|node| match node.text() {
            // The operator writes it as a string.
            Some("") => None,
            Some(text) => self.errno_text(node, text, &object.pointer_to(number)),
            None => {
                let value = self.number(node, &object.pointer_to(number))?;
                Some(u32::try_from(value).unwrap_or(u32::MAX))
            }
        });
        let by_name = object.get(name).and_then(|node| {
            let text = self.string(node, &object.pointer_to(name))?;
            (!text.is_empty()).then(|| self.errno_text(node, &text, &object.pointer_to(name)))?
        });
        by_name.or(by_number)
    }

    fn errno_text(&mut self, node: &Node, text: &str, pointer: &str) -> Option<u32> {
        let value = text.parse().ok().or_else(|| errno::number(text));
        if value.is_none() {
            self.wrong(node, pointer, "an errno, as in \"ENOSYS\"");
        }
        value
    }
}

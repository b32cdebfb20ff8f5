//! A document as read, before it means anything: values with their places.

use super::error::DialectError;
use super::place::Place;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its first character.
    pub at: Place,
    /// The value.
    pub value: Value,
}

/// A value of JSON, or of the part of YAML that profiles are written in.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, or nothing in YAML.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object; no key stands in it twice.
    Map(Vec<(Key, Node)>),
}

/// A key of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its first character.
    pub at: Place,
    /// The key.
    pub name: String,
}

impl Node {
    /// The field of an object; `None` too if this is no object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(fields) => fields
                .iter()
                .find(|(key, _)| key.name == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The string this is.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "an object",
        }
    }
}

/// A value together with the JSON pointer to it.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    pub(super) node: &'a Node,
    pub(super) pointer: String,
}

impl<'a> Cursor<'a> {
    fn wrong<T>(&self, wanted: &'static str) -> Result<T, DialectError> {
        Err(DialectError::Kind {
            at: self.node.at,
            pointer: self.pointer.clone(),
            wanted,
            found: self.node.kind(),
        })
    }

    /// An error that names the value.
    pub(super) fn value_error(
        &self,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> DialectError {
        DialectError::Value {
            at: self.node.at,
            pointer: self.pointer.clone(),
            wanted: wanted.into(),
            found: found.into(),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, DialectError> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            _ => self.wrong("a string"),
        }
    }

    /// A whole number up to `most`.
    pub(super) fn number(&self, most: u64) -> Result<u64, DialectError> {
        let Value::Number(text) = &self.node.value else {
            return self.wrong("a number");
        };
        match text.parse::<u64>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(self.value_error(text, format!("a whole number from 0 to {most}"))),
        }
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Result<impl Iterator<Item = Cursor<'a>>, DialectError> {
        let Value::List(list) = &self.node.value else {
            return self.wrong("a list");
        };
        let pointer = self.pointer.clone();
        Ok(list.iter().enumerate().map(move |(at, node)| Cursor {
            node,
            pointer: format!("{pointer}/{at}"),
        }))
    }

    /// The strings of a list.
    pub(super) fn texts(&self) -> Result<Vec<String>, DialectError> {
        self.list()?
            .map(|one| one.text().map(str::to_owned))
            .collect()
    }

    pub(super) fn fields(&self) -> Result<Fields<'a>, DialectError> {
        match &self.node.value {
            Value::Map(fields) => Ok(Fields {
                at: self.node.at,
                fields,
                pointer: self.pointer.clone(),
                known: Vec::new(),
            }),
            _ => self.wrong("an object"),
        }
    }
}

/// An object whose fields are taken out by name, so that those left over can be told.
pub(super) struct Fields<'a> {
    pub(super) at: Place,
    pub(super) pointer: String,
    fields: &'a [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// A field that may be missing; `null` counts as missing, as in Go's decoder.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Cursor<'a>> {
        self.known.push(name);
        let (_, node) = self.fields.iter().find(|(key, _)| key.name == name)?;
        (node.value != Value::Null).then(|| Cursor {
            node,
            pointer: format!("{}/{name}", self.pointer),
        })
    }

    /// A field that must be there.
    pub(super) fn need(&mut self, name: &'static str) -> Result<Cursor<'a>, DialectError> {
        self.get(name).ok_or_else(|| DialectError::Missing {
            at: self.at,
            pointer: self.pointer.clone(),
            field: name,
        })
    }

    /// An error that two fields are there of which there can be one.
    pub(super) fn both(&self, one: &'static str, other: &'static str) -> DialectError {
        DialectError::Both {
            at: self.at,
            pointer: self.pointer.clone(),
            one,
            other,
        }
    }

    /// The fields nobody asked for.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &'a Key> {
        let keys = self.fields.iter().map(|(key, _)| key);
        keys.filter(|key| !self.known.contains(&key.name.as_str()))
    }
}

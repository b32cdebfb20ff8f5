//! YAML into the same tree as JSON: the part of it that profiles are written in.
//!
//! The parser gives events; this puts them together within bounds. Aliases are refused, because ten
//! lines of them make a tree of a billion values; so are anchors and tags, which profiles do not use.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::error::DialectError;
use super::node::{Key, Node, Value};
use super::place::Place;
use super::{MAX_DEPTH, MAX_NODES};

/// Reads every document of a YAML stream.
pub fn parse(text: &str) -> Result<Vec<Node>, DialectError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| DialectError::Yaml {
            at: place(error.marker().line(), error.marker().col()),
            message: error.info().to_owned(),
        })?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

/// The parser counts lines from 1 and columns from 0.
fn place(line: usize, column: usize) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place {
        line: number(line.max(1)),
        column: number(column).saturating_add(1),
    }
}

/// A list or an object that is not complete yet.
enum Open {
    List(Place, Vec<Node>),
    Map {
        at: Place,
        fields: Vec<(Key, Node)>,
        seen: BTreeMap<String, Place>,
        /// A key whose value comes next.
        key: Option<Key>,
    },
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event, span: Span) -> Result<(), DialectError> {
        let at = place(span.start.line(), span.start.col());
        let refused = |what| Err(DialectError::YamlFeature { at, what });
        match event {
            Event::Alias(_) => return refused("aliases (*name)"),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return refused("anchors (&name)");
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return refused("tags (!name)"),
            Event::Scalar(text, style, _, _) => {
                self.count(at)?;
                let text = text.into_owned();
                return self.scalar(at, text, style == ScalarStyle::Plain);
            }
            Event::SequenceStart(..) => {
                self.count(at)?;
                self.open.push(Open::List(at, Vec::new()));
            }
            Event::MappingStart(..) => {
                self.count(at)?;
                self.open.push(Open::Map {
                    at,
                    fields: Vec::new(),
                    seen: BTreeMap::new(),
                    key: None,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::List(at, list)) => Node {
                        at,
                        value: Value::List(list),
                    },
                    Some(Open::Map { at, fields, .. }) => Node {
                        at,
                        value: Value::Map(fields),
                    },
                    // The parser pairs starts and ends.
                    None => return Ok(()),
                };
                return self.place(node);
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn count(&mut self, at: Place) -> Result<(), DialectError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(DialectError::TooMany { at });
        }
        if self.open.len() > MAX_DEPTH {
            return Err(DialectError::TooDeep { at });
        }
        Ok(())
    }

    /// A key, where one is expected, or a value.
    fn scalar(&mut self, at: Place, text: String, plain: bool) -> Result<(), DialectError> {
        if let Some(Open::Map { seen, key, .. }) = self.open.last_mut()
            && key.is_none()
        {
            if let Some(first) = seen.insert(text.clone(), at) {
                let key = text;
                return Err(DialectError::DuplicateKey { at, key, first });
            }
            *key = Some(Key { at, name: text });
            return Ok(());
        }
        let value = if plain {
            meaning(text)
        } else {
            Value::Text(text)
        };
        self.place(Node { at, value })
    }

    /// Puts a complete value where it belongs.
    fn place(&mut self, node: Node) -> Result<(), DialectError> {
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open::List(_, list)) => list.push(node),
            Some(Open::Map { fields, key, .. }) => match key.take() {
                Some(key) => fields.push((key, node)),
                None => {
                    return Err(DialectError::YamlFeature {
                        at: node.at,
                        what: "lists and objects as keys",
                    });
                }
            },
        }
        Ok(())
    }
}

/// What a word without quotes is: YAML 1.2's core schema (section 10.3.2).
fn meaning(text: String) -> Value {
    let digits = |text: &str, radix| {
        !text.is_empty() && text.chars().all(|digit: char| digit.is_digit(radix))
    };
    let other_radix = [("0x", 16), ("0o", 8)]
        .into_iter()
        .find_map(|(prefix, radix)| {
            let rest = text
                .strip_prefix(prefix)
                .filter(|rest| digits(rest, radix))?;
            u64::from_str_radix(rest, radix).ok()
        });
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if other_radix.is_some() => Value::Number(other_radix.unwrap_or_default().to_string()),
        _ if digits(text.strip_prefix(['-', '+']).unwrap_or(&text), 10) => {
            Value::Number(text.strip_prefix('+').map_or(text.clone(), str::to_owned))
        }
        // Fractions have no place in profiles: as text, they are refused by the field's own name.
        _ => Value::Text(text),
    }
}

//! JSON with places, within bounds.
//!
//! Written here because the errors of a profile need a line and a column long after the text was
//! parsed, and because a key that stands twice must not be overlooked. The fuzz target holds it
//! against `serde_json`.

use std::collections::BTreeMap;

use super::error::{DialectError, JsonFault};
use super::node::{Key, Node, Value};
use super::place::Place;
use super::{MAX_DEPTH, MAX_NODES};

/// Reads one JSON value and nothing after it.
pub fn parse(text: &str) -> Result<Node, DialectError> {
    let mut parser = Parser {
        rest: text,
        at: Place::START,
        nodes: 0,
    };
    let node = parser.value(0)?;
    parser.blank();
    match parser.peek() {
        None => Ok(node),
        Some(_) => parser.fail(JsonFault::Trailing),
    }
}

struct Parser<'a> {
    rest: &'a str,
    at: Place,
    nodes: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, wrong: JsonFault) -> Result<T, DialectError> {
        Err(DialectError::Json { at: self.at, wrong })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = self.rest.get(next.len_utf8()..).unwrap_or_default();
        if next == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
        Some(next)
    }

    fn blank(&mut self) {
        while let Some(' ' | '\t' | '\n' | '\r') = self.peek() {
            self.next();
        }
    }

    /// Takes one of the `wanted` characters.
    fn take(&mut self, wanted: &[char], what: &'static str) -> Result<char, DialectError> {
        match self.peek() {
            Some(found) if wanted.contains(&found) => {
                self.next();
                Ok(found)
            }
            Some(found) => self.fail(JsonFault::Unexpected {
                wanted: what,
                found,
            }),
            None => self.fail(JsonFault::End),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, DialectError> {
        self.blank();
        let at = self.at;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(DialectError::TooMany { at });
        }
        if depth > MAX_DEPTH {
            return Err(DialectError::TooDeep { at });
        }
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Value::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('t') => self.word("true", Value::Bool(true))?,
            Some('f') => self.word("false", Value::Bool(false))?,
            Some('n') => self.word("null", Value::Null)?,
            Some(found) => {
                return self.fail(JsonFault::Unexpected {
                    wanted: "a value",
                    found,
                });
            }
            None => return self.fail(JsonFault::End),
        };
        Ok(Node { at, value })
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, DialectError> {
        for letter in word.chars() {
            self.take(&[letter], word)?;
        }
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, DialectError> {
        self.next();
        self.blank();
        let mut list = Vec::new();
        if self.peek() == Some(']') {
            self.next();
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            self.blank();
            if self.take(&[',', ']'], "a comma or the end of the list")? == ']' {
                return Ok(Value::List(list));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, DialectError> {
        self.next();
        self.blank();
        let mut fields = Vec::new();
        let mut seen = BTreeMap::new();
        if self.peek() == Some('}') {
            self.next();
            return Ok(Value::Map(fields));
        }
        loop {
            self.blank();
            let at = self.at;
            match self.peek() {
                Some('"') => {}
                Some(found) => {
                    return self.fail(JsonFault::Unexpected {
                        wanted: "a key in quotes",
                        found,
                    });
                }
                None => return self.fail(JsonFault::End),
            }
            let name = self.string()?;
            if let Some(first) = seen.insert(name.clone(), at) {
                let key = name;
                return Err(DialectError::DuplicateKey { at, key, first });
            }
            self.blank();
            self.take(&[':'], "a colon")?;
            let node = self.value(depth + 1)?;
            fields.push((Key { at, name }, node));
            self.blank();
            if self.take(&[',', '}'], "a comma or the end of the object")? == '}' {
                return Ok(Value::Map(fields));
            }
        }
    }

    /// RFC 8259, section 6. The text is kept: numbers in profiles need all 64 bits.
    fn number(&mut self) -> Result<Value, DialectError> {
        let text = self.rest;
        let start = self.at;
        if self.peek() == Some('-') {
            self.next();
        }
        let leading_zero = self.peek() == Some('0');
        let whole = self.digits();
        let mut good = whole == 1 || whole > 1 && !leading_zero;
        if self.peek() == Some('.') {
            self.next();
            good &= self.digits() > 0;
        }
        if let Some('e' | 'E') = self.peek() {
            self.next();
            if let Some('+' | '-') = self.peek() {
                self.next();
            }
            good &= self.digits() > 0;
        }
        if !good {
            self.at = start;
            return self.fail(JsonFault::Number);
        }
        let length = text.len() - self.rest.len();
        Ok(Value::Number(
            text.get(..length).unwrap_or_default().to_owned(),
        ))
    }

    fn digits(&mut self) -> usize {
        let mut count = 0;
        while let Some('0'..='9') = self.peek() {
            self.next();
            count += 1;
        }
        count
    }

    fn string(&mut self) -> Result<String, DialectError> {
        self.next();
        let mut out = String::new();
        loop {
            match self.peek() {
                None => return self.fail(JsonFault::End),
                Some('"') => {
                    self.next();
                    return Ok(out);
                }
                Some('\\') => out.push(self.escape()?),
                Some('\0'..='\x1f') => return self.fail(JsonFault::Control),
                Some(other) => {
                    self.next();
                    out.push(other);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, DialectError> {
        let start = self.at;
        self.next();
        let plain = match self.next() {
            Some(same @ ('"' | '\\' | '/')) => same,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode(start),
            Some(_) => {
                self.at = start;
                return self.fail(JsonFault::Escape);
            }
            None => return self.fail(JsonFault::End),
        };
        Ok(plain)
    }

    /// `\uXXXX`, or two of them for a character beyond the first 65,536.
    fn unicode(&mut self, start: Place) -> Result<char, DialectError> {
        let mut code = self.hex()?;
        let first_half = (0xd800..0xdc00).contains(&code);
        if first_half && self.next() == Some('\\') && self.next() == Some('u') {
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        // Half a pair is no character.
        char::from_u32(code).map_or_else(
            || {
                self.at = start;
                self.fail(JsonFault::Escape)
            },
            Ok,
        )
    }

    fn hex(&mut self) -> Result<u32, DialectError> {
        let mut code = 0;
        for _ in 0..4 {
            match self.peek().map(|digit| digit.to_digit(16)) {
                Some(Some(digit)) => code = code << 4 | digit,
                Some(None) => return self.fail(JsonFault::Escape),
                None => return self.fail(JsonFault::End),
            }
            self.next();
        }
        Ok(code)
    }
}

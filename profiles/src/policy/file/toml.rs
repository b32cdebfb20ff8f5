//! Reads values out of TOML tables, keeps where each one stands, and knows every key that was
//! looked for, so that any other is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::access::Ports;

/// Something wrong at a place of the text.
#[derive(Debug)]
pub(super) struct Problem {
    /// Bytes from the start of the text.
    pub(super) offset: usize,
    /// What is wrong and what to do.
    pub(super) message: String,
}

impl Problem {
    pub(super) fn at(span: &Range<usize>, message: impl Into<String>) -> Self {
        Self {
            offset: span.start,
            message: message.into(),
        }
    }
}

/// A string and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Range<usize>,
}

/// A table of which every key must be read.
pub(super) struct Table<'t> {
    /// As in the file: `[policy.web.mounts]`.
    name: String,
    items: BTreeMap<&'t str, (Range<usize>, &'t Spanned<DeValue<'t>>)>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    pub(super) fn new(name: impl Into<String>, table: &'t DeTable<'t>) -> Self {
        let items = table.iter();
        Self {
            name: name.into(),
            items: items
                .map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value)))
                .collect(),
            known: Vec::new(),
        }
    }

    /// Takes the value of `key` out of the table.
    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.items.remove(key).map(|(_, value)| value)
    }

    /// Takes the table `key` out of the table.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Self>, Problem> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let name = match self.name.as_str() {
            "" => key.to_owned(),
            outer => format!("{outer}.{key}"),
        };
        let table = as_table(&name, value)?;
        Ok(Some(Self::new(name, table)))
    }

    /// Takes every table of a table of tables, with the place of its name.
    pub(super) fn tables(self) -> Result<Vec<(Text, Self)>, Problem> {
        let items = self.items.into_iter();
        items
            .map(|(key, (span, value))| {
                let name = format!("{}.{key}", self.name);
                let table = as_table(&name, value)?;
                let value = key.to_owned();
                Ok((Text { value, span }, Self::new(name, table)))
            })
            .collect()
    }

    /// Takes a string.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<Text>, Problem> {
        self.take(key).map(|value| text(key, value)).transpose()
    }

    /// Takes a list of strings.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<Text>>, Problem> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let Some(list) = value.get_ref().as_array() else {
            return Err(wrong_type(
                key,
                value,
                "a list of strings, such as [\"a\", \"b\"]",
            ));
        };
        let list = list.iter().map(|item| text(key, item));
        list.collect::<Result<_, _>>().map(Some)
    }

    /// Takes a list of strings, each read by `read`, into `target`.
    pub(super) fn set<T: Ord>(
        &mut self,
        key: &'static str,
        target: &mut BTreeSet<T>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<(), Problem> {
        if let Some(list) = self.texts(key)? {
            let items = list
                .iter()
                .map(|item| read(&item.value).map_err(|message| Problem::at(&item.span, message)));
            *target = items.collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// Takes `true` or `false` into `target`.
    pub(super) fn flag(&mut self, key: &'static str, target: &mut bool) -> Result<(), Problem> {
        if let Some(value) = self.take(key) {
            let flag = value.get_ref().as_bool();
            *target = flag.ok_or_else(|| wrong_type(key, value, "true or false"))?;
        }
        Ok(())
    }

    /// Takes a whole number that is not negative.
    pub(super) fn number(&mut self, key: &'static str) -> Result<Option<u64>, Problem> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        let wanted = "a whole number from 0 to 18446744073709551615";
        number
            .map(Some)
            .ok_or_else(|| wrong_type(key, value, wanted))
    }

    /// Takes `"any"` or a list of ports into `target`.
    pub(super) fn ports(&mut self, key: &'static str, target: &mut Ports) -> Result<(), Problem> {
        let wanted = "\"any\" or a list of ports from 0 to 65535, such as [80, 443]";
        let Some(value) = self.take(key) else {
            return Ok(());
        };
        let port = |item: &Spanned<DeValue<'_>>| {
            let number = item.get_ref().as_integer();
            let number = number.and_then(|n| u16::from_str_radix(n.as_str(), n.radix()).ok());
            number.ok_or_else(|| wrong_type(key, item, wanted))
        };
        *target = match (value.get_ref().as_array(), value.get_ref().as_str()) {
            (Some(list), _) => Ports::Only(list.iter().map(port).collect::<Result<_, _>>()?),
            (None, Some("any")) => Ports::Any,
            _ => return Err(wrong_type(key, value, wanted)),
        };
        Ok(())
    }

    /// Takes one of some words into `target`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        target: &mut T,
    ) -> Result<(), Problem> {
        let Some(text) = self.text(key)? else {
            return Ok(());
        };
        let found = choices.iter().find(|(name, _)| *name == text.value);
        let (_, value) = found.ok_or_else(|| {
            let names = choices.iter().map(|(name, _)| *name);
            Problem::at(
                &text.span,
                unknown(&format!("{key} value"), &text.value, names),
            )
        })?;
        *target = *value;
        Ok(())
    }

    /// Fails if a key is left that nobody looked for.
    pub(super) fn finish(self) -> Result<(), Problem> {
        let first = self.items.iter().min_by_key(|(_, (span, _))| span.start);
        let Some((key, (span, _))) = first else {
            return Ok(());
        };
        let place = match self.name.as_str() {
            "" => "key".to_owned(),
            name => format!("key in [{name}]"),
        };
        Err(Problem::at(
            span,
            unknown(&place, key, self.known.iter().copied()),
        ))
    }
}

fn as_table<'t>(name: &str, value: &'t Spanned<DeValue<'t>>) -> Result<&'t DeTable<'t>, Problem> {
    let table = value.get_ref().as_table();
    table.ok_or_else(|| wrong_type(name, value, &format!("a table: [{name}]")))
}

fn text(key: &str, value: &Spanned<DeValue<'_>>) -> Result<Text, Problem> {
    let text = value.get_ref().as_str();
    let text = text.ok_or_else(|| wrong_type(key, value, "a string in quotes"))?;
    Ok(Text {
        value: text.to_owned(),
        span: value.span(),
    })
}

fn wrong_type(key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Problem {
    let found = value.get_ref().type_str();
    Problem::at(
        &value.span(),
        format!("{key} is of type {found}; write {wanted}"),
    )
}

/// "unknown X "y"; did you mean "z"? Known: ...".
pub(super) fn unknown<'n>(
    what: &str,
    found: &str,
    known: impl Iterator<Item = &'n str> + Clone,
) -> String {
    let near = known
        .clone()
        .map(|name| (distance(found, name), name))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    let hint = match near {
        Some((_, name)) => format!("; did you mean {name:?}?"),
        None => ".".to_owned(),
    };
    let known: Vec<&str> = known.collect();
    let found: String = found.chars().take(100).collect();
    format!("unknown {what} {found:?}{hint} Known: {}", known.join(", "))
}

/// Levenshtein's distance, by bytes; long words are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("deny", "deny", 0),
            ("dney", "deny", 2),
            ("capabilites", "capabilities", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}

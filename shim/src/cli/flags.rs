//! Flags as runc's users write them: one table per verb serves the parser and the help.
//!
//! The syntax is that of Go's `flag` package, which no Rust parser at hand speaks: one dash or two
//! before any name, `--name value` or `--name=value`, and `--name=false` for a switch.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::str::FromStr;

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// The name after two dashes.
    pub(crate) name: &'static str,
    /// The one letter that means the same; `'\0'` if there is none.
    pub(crate) letter: char,
    /// What the value is called in the help; empty for a switch.
    pub(crate) value: &'static str,
    /// One sentence.
    pub(crate) help: &'static str,
}

impl Flag {
    /// A flag without a value.
    pub(crate) const fn switch(name: &'static str, letter: char, help: &'static str) -> Self {
        Self {
            name,
            letter,
            value: "",
            help,
        }
    }

    /// A flag with a value.
    pub(crate) const fn value(
        name: &'static str,
        letter: char,
        value: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            letter,
            value,
            help,
        }
    }

    fn is_called(&self, name: &[u8]) -> bool {
        let mut buffer = [0; 4];
        name == self.name.as_bytes()
            || (self.letter != '\0' && name == self.letter.encode_utf8(&mut buffer).as_bytes())
    }
}

/// What is wrong with the words of a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such flag.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// The value is missing.
    #[error("flag needs an argument: -{0}")]
    NeedsValue(&'static str),
    /// The value cannot be read.
    #[error("invalid value {value:?} for flag -{flag}: {expected} expected")]
    BadValue {
        /// The flag.
        flag: &'static str,
        /// The value as given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// The words of one verb (or the global ones before it), sorted out.
#[derive(Debug, Default)]
pub(crate) struct Words {
    table: &'static [Flag],
    given: Vec<(&'static str, OsString)>,
    /// What is no flag, in order.
    pub(crate) plain: Vec<OsString>,
    /// `--help` was among them.
    pub(crate) help: bool,
}

/// Where flags end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Flags may also follow plain words: `kill ID --all`.
    TheEnd,
    /// The first plain word and all after it are left alone: `exec ID ls -l`.
    FirstPlain,
    /// No word is read here: another program does.
    TheStart,
}

impl Words {
    /// Sorts `words` by `table`.
    pub(crate) fn parse(
        table: &'static [Flag],
        until: Until,
        words: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, FlagError> {
        let mut sorted = Self {
            table,
            ..Self::default()
        };
        let mut words = words.into_iter();
        if until == Until::TheStart {
            sorted.plain.extend(words);
            return Ok(sorted);
        }
        while let Some(word) = words.next() {
            let bytes = word.as_bytes();
            if bytes == b"--" {
                sorted.plain.extend(words);
                break;
            }
            let Some(name) = bytes.strip_prefix(b"-").filter(|rest| !rest.is_empty()) else {
                sorted.plain.push(word);
                if until == Until::FirstPlain {
                    sorted.plain.extend(words);
                    break;
                }
                continue;
            };
            let name = name.strip_prefix(b"-").unwrap_or(name).to_vec();
            sorted.take(&name, &mut words)?;
        }
        Ok(sorted)
    }

    fn take(
        &mut self,
        name: &[u8],
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), FlagError> {
        let (name, attached) = match name.iter().position(|&b| b == b'=') {
            Some(at) => (
                &name[..at],
                Some(OsString::from_vec(name[at + 1..].to_vec())),
            ),
            None => (name, None),
        };
        if matches!(name, b"help" | b"h") {
            self.help = true;
            return Ok(());
        }
        let flag = self.table.iter().find(|flag| flag.is_called(name));
        let flag = flag.ok_or_else(|| FlagError::Unknown(String::from_utf8_lossy(name).into()))?;
        let value = match (flag.value, attached) {
            ("", None) => OsString::from("true"),
            (_, Some(value)) => value,
            (_, None) => words.next().ok_or(FlagError::NeedsValue(flag.name))?,
        };
        if flag.value.is_empty() && as_bool(&value).is_none() {
            return Err(bad(flag.name, &value, "true or false"));
        }
        self.given.push((flag.name, value));
        Ok(())
    }

    fn last(&self, name: &'static str) -> Option<&OsStr> {
        debug_assert!(
            self.table.iter().any(|flag| flag.name == name),
            "{name} is in no table"
        );
        let hit = self.given.iter().rev().find(|(given, _)| *given == name);
        hit.map(|(_, value)| value.as_os_str())
    }

    /// Whether a switch is on; the last one counts.
    pub(crate) fn on(&self, name: &'static str) -> bool {
        self.switch(name).unwrap_or(false)
    }

    /// A switch, if it was given at all.
    pub(crate) fn switch(&self, name: &'static str) -> Option<bool> {
        self.last(name).and_then(as_bool)
    }

    /// A path, if given and not empty.
    pub(crate) fn path(&self, name: &'static str) -> Option<&Path> {
        self.last(name).filter(|v| !v.is_empty()).map(Path::new)
    }

    /// A text, if given and not empty.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, FlagError> {
        let Some(value) = self.last(name).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| bad(name, value, "UTF-8"))?;
        Ok(Some(text))
    }

    /// Every text given for a flag that may be repeated.
    pub(crate) fn texts(&self, name: &'static str) -> Result<Vec<&str>, FlagError> {
        let hits = self.given.iter().filter(|(given, _)| *given == name);
        hits.map(|(_, v)| v.to_str().ok_or_else(|| bad(name, v, "UTF-8")))
            .collect()
    }

    /// A value of another type.
    pub(crate) fn parsed<T: FromStr>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, FlagError> {
        let Some(value) = self.last(name) else {
            return Ok(None);
        };
        let parsed = value.to_str().and_then(|text| text.parse().ok());
        parsed.map(Some).ok_or_else(|| bad(name, value, expected))
    }
}

/// An error about the value of a flag.
pub(crate) fn bad(flag: &'static str, value: &OsStr, expected: &'static str) -> FlagError {
    FlagError::BadValue {
        flag,
        value: value.to_string_lossy().chars().take(100).collect(),
        expected,
    }
}

/// The words that Go's `strconv.ParseBool` takes.
fn as_bool(value: &OsStr) -> Option<bool> {
    match value.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[Flag] = &[
        Flag::value("bundle", 'b', "DIR", ""),
        Flag::switch("detach", 'd', ""),
        Flag::value("env", 'e', "K=V", ""),
    ];

    fn parse(until: Until, words: &[&str]) -> Result<Words, FlagError> {
        Words::parse(TABLE, until, words.iter().map(OsString::from))
    }

    #[test]
    fn every_spelling_of_go_is_understood() {
        for words in [
            &["--bundle", "x", "id"][..],
            &["--bundle=x", "id"],
            &["-bundle", "x", "id"],
            &["-bundle=x", "id"],
            &["-b", "x", "id"],
            &["-b=x", "id"],
            &["--b", "x", "id"],
            &["id", "-b", "x"],
            &["-b", "y", "-b", "x", "--", "id"],
        ] {
            let got = parse(Until::TheEnd, words).unwrap();
            assert_eq!(got.path("bundle"), Some(Path::new("x")), "{words:?}");
            assert_eq!(got.plain, ["id"], "{words:?}");
            assert!(!got.on("detach"));
        }
    }

    #[test]
    fn switches_take_go_booleans() {
        for (word, on) in [
            ("-d", true),
            ("--detach", true),
            ("--detach=true", true),
            ("-d=1", true),
            ("--detach=false", false),
            ("-d=F", false),
        ] {
            assert_eq!(parse(Until::TheEnd, &[word]).unwrap().on("detach"), on);
        }
        let got = parse(Until::TheEnd, &["-d=maybe"]);
        assert!(matches!(got, Err(FlagError::BadValue { .. })), "{got:?}");
    }

    #[test]
    fn the_command_of_exec_is_left_alone() {
        let got = parse(Until::FirstPlain, &["-d", "id", "ls", "-b", "--", "-e"]).unwrap();
        assert_eq!(got.plain, ["id", "ls", "-b", "--", "-e"]);
        assert!(got.path("bundle").is_none());
    }

    #[test]
    fn the_words_of_another_program_are_left_alone() {
        let got = parse(Until::TheStart, &["--help", "-d", "--", "id"]).unwrap();
        assert_eq!(got.plain, ["--help", "-d", "--", "id"]);
        assert!(!got.help);
    }

    #[test]
    fn repeated_values_are_kept_in_order() {
        let got = parse(Until::TheEnd, &["-e", "A=1", "--env=B=2"]).unwrap();
        assert_eq!(got.texts("env").unwrap(), ["A=1", "B=2"]);
    }

    #[test]
    fn mistakes_are_errors() {
        let unknown = parse(Until::TheEnd, &["--nosuch"]).unwrap_err();
        assert_eq!(unknown, FlagError::Unknown("nosuch".to_owned()));
        let missing = parse(Until::TheEnd, &["-b"]).unwrap_err();
        assert_eq!(missing, FlagError::NeedsValue("bundle"));
        let bytes = OsString::from_vec(b"-\xff=\xfe".to_vec());
        assert!(Words::parse(TABLE, Until::TheEnd, [bytes]).is_err());
        assert_eq!(parse(Until::TheEnd, &["-"]).unwrap().plain, ["-"]);
    }
}

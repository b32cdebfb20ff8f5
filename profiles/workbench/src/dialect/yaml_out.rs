//! YAML in block style: as much of it as a `SeccompProfile` needs.

/// Text so far.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
}

impl Writer {
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, depth: usize, mark: &str, text: &str) {
        self.text.push_str(&"  ".repeat(depth));
        self.text.push_str(mark);
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A key whose value follows on the next lines.
    pub(super) fn open(&mut self, depth: usize, key: &str) {
        self.line(depth, "", &format!("{key}:"));
    }

    /// A key with its value.
    pub(super) fn field(&mut self, depth: usize, key: &str, value: &str) {
        self.line(depth, "", &format!("{key}: {}", scalar(value)));
    }

    /// A key with a value that is a string even if it looks like something else.
    pub(super) fn quoted(&mut self, depth: usize, key: &str, value: &str) {
        self.line(depth, "", &format!("{key}: {}", quote(value)));
    }

    /// The first key of an object in a list that belongs to a key at `depth`.
    pub(super) fn item(&mut self, depth: usize, key: &str, value: &str) {
        self.line(depth, "- ", &format!("{key}: {}", scalar(value)));
    }

    /// A key with a list of strings.
    pub(super) fn list(&mut self, depth: usize, key: &str, values: impl Iterator<Item = String>) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            self.line(depth, "", &format!("{key}: []"));
            return;
        }
        self.open(depth, key);
        for value in values {
            self.line(depth, "- ", &scalar(&value));
        }
    }
}

/// A value as it can stand after a colon.
fn scalar(value: &str) -> String {
    let number = !value.is_empty() && value.chars().all(|c| c.is_ascii_digit());
    let letter = value.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = letter
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    // Words that YAML readers take for something else, in any version of YAML.
    let taken = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if number || plain && !taken.contains(&value.to_ascii_lowercase().as_str()) {
        value.to_owned()
    } else {
        quote(value)
    }
}

/// In double quotes, with the escapes that JSON and YAML share.
fn quote(value: &str) -> String {
    let mut out = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' || c == '\u{feff}' => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

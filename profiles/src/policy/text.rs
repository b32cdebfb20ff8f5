//! Words from specs, images and annotations, made fit for logs and terminals.

/// The longest text that goes into a finding or a refusal, in characters.
const LONGEST: usize = 400;

/// `text` without control characters, which could forge lines or drive a terminal, and not longer
/// than a few lines.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push_str("...");
            break;
        }
        if c.is_control() || is_format(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder or hide others (Unicode UAX #9 bidirectional controls, zero width).
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_fool_a_terminal_is_escaped() {
        for (text, expected) in [
            ("/srv/data", "/srv/data"),
            ("a\nb", "a\\u{a}b"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{202e}gpj", "\\u{202e}gpj"),
            ("Grüße", "Grüße"),
        ] {
            assert_eq!(harmless(text), expected);
        }
        assert_eq!(harmless(&"x".repeat(1000)).len(), LONGEST + 3);
    }
}

//! Tags and escaping.

/// The longest text that is shown in one place, in characters.
const MAX_TEXT: usize = 400;

/// A text that somebody else wrote, as the content of an element.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        if at == MAX_TEXT {
            out.push('\u{2026}');
            break;
        }
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || is_reordering(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Characters that make a text look like another one (Unicode's bidirectional controls).
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_a_tag() {
        for (text, wanted) in [
            ("plain", "plain"),
            (
                "<script>alert('&\"')</script>",
                "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;",
            ),
            ("a\u{202e}b\nc", "a\u{fffd}b\u{fffd}c"),
        ] {
            assert_eq!(escape(text), wanted);
        }
        assert_eq!(escape(&"x".repeat(10_000)).chars().count(), MAX_TEXT + 1);
    }
}

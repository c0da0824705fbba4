//! Text of others made fit for a terminal: no colours, no cursor, no titles; letters, and tabs.

use vte::{Parser, Perform};

/// `text` without escape sequences and control characters, but for tabs. What is no UTF-8 becomes U+FFFD.
pub fn harmless(text: &[u8]) -> String {
    let (mut parser, mut printed) = (Parser::new(), Printed(String::with_capacity(text.len())));
    parser.advance(&mut printed, text);
    // A character, or an escape, may be cut off at the end: a byte that begins something new ends it.
    if text.last().is_some_and(|byte| !byte.is_ascii()) {
        parser.advance(&mut printed, b"\0");
    }
    printed.0
}

struct Printed(String);

impl Perform for Printed {
    fn print(&mut self, c: char) {
        if !c.is_control() {
            self.0.push(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        if byte == b'\t' {
            self.0.push('\t');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn letters_and_tabs_stay_and_nothing_else() {
        for (text, expected) in [
            (&b"plain\ttext"[..], "plain\ttext"),
            (b"\x1b[1;31mred\x1b[0m and \x1b[38;2;1;2;3mmore", "red and more"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://h/\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"a\x1b[2J\x1b[Hb\x08\x7f\x00c", "abc"),
            (b"\x1bPq#0;2;0;0;0\x1b\\sixel", "sixel"),
            ("grüße 日本 🚀 \u{9b}31mx".as_bytes(), "grüße 日本 🚀 31mx"),
            (b"cut \xf0\x9f", "cut \u{fffd}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"cut \x1b[3", "cut "),
        ] {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }
}

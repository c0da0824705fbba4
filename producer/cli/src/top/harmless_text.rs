//! Text of crews and workers in lines that a terminal can bear.

use crewfleet_service::harmless::harmless;
use ratatui::text::Span;

/// A line of text without escape sequences and control characters.
pub(crate) fn harmless_line(text: &str) -> String {
    harmless(text.as_bytes()).replace('\t', "    ")
}

/// At most so many lines of a text, each as [`harmless_line`].
pub(crate) fn harmless_lines(text: &str, most: usize) -> Vec<String> {
    text.lines().take(most).map(harmless_line).collect()
}

/// A line as lines of at most this width on a terminal.
pub(crate) fn wrapped(line: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for letter in line.chars() {
        let wide = Span::raw(letter.to_string()).width();
        if used + wide > usize::from(width.max(1)) {
            lines.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(last) = lines.last_mut() {
            last.push(letter);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_harmless_and_as_wide_as_the_terminal() {
        assert_eq!(harmless_line("a\u{1b}[2J\tb\u{9b}"), "a    b");
        assert_eq!(harmless_lines("a\nb\rc\nd", 2), ["a", "bc"]);
        assert_eq!(wrapped("abcdef日本", 5), ["abcde", "f日本"]);
        assert_eq!(wrapped("", 5), [""]);
    }
}

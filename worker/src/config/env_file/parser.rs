//! The grammar of python-dotenv 1.2, which reads `.env` at home: its own steps, one function for each.
//!
//! `dotenvy` 0.15.7 reads another language. Of the 88 files in `tests/env_files.json` it reads 41 otherwise, among them
//! what people write: it refuses `A=two words` and `NAME` alone, makes `pa` of `pa$$word` and nothing of `#fff`, lets the
//! environment win over the file in `${NAME}`, and knows no `${NAME:-default}`, no `\t` in quotes and no byte order mark.

use std::collections::HashMap;

/// One statement: a name, with a value where it has `=`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) value: Option<String>,
    /// Where it begins, from 1.
    pub(super) line: usize,
}

/// What a file says, in its order.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pub(super) bindings: Vec<Binding>,
    /// The lines on which statements begin that cannot be read.
    pub(super) errors: Vec<usize>,
}

/// Reads `text`, without regard to `${NAME}`.
pub(super) fn parse(text: &str) -> Statements {
    // Python translates line ends when it opens a text file, also within quotes.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(&text),
        line: 1,
    };
    let mut statements = Statements::default();
    loop {
        reader.take_while(is_space);
        if reader.rest.is_empty() {
            return statements;
        }
        let begin = reader.line;
        match reader.statement() {
            Some((Some(name), value)) => statements.bindings.push(Binding {
                name,
                value,
                line: begin,
            }),
            Some((None, _)) => {}
            None => {
                reader.skip_line();
                statements.errors.push(begin);
            }
        }
    }
}

/// Puts values for `${NAME}` and `${NAME:-default}`; `known` comes first, then what the file said above, then `outer`.
pub(super) fn resolve(
    bindings: Vec<Binding>,
    known: impl Fn(&str) -> Option<String>,
    outer: impl Fn(&str) -> Option<String>,
) -> Vec<Binding> {
    // A name without a value is known, and empty.
    let mut above: HashMap<String, Option<String>> = HashMap::new();
    let mut resolved = Vec::with_capacity(bindings.len());
    for binding in bindings {
        let lookup = |name: &str| match (known(name), above.get(name)) {
            (Some(value), _) => Some(value),
            (None, Some(value)) => Some(value.clone().unwrap_or_default()),
            (None, None) => outer(name),
        };
        let value = binding.value.map(|value| interpolate(&value, lookup));
        above.insert(binding.name.clone(), value.clone());
        resolved.push(Binding { value, ..binding });
    }
    resolved
}

fn interpolate(value: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let (mut text, mut rest) = (String::with_capacity(value.len()), value);
    while let Some(start) = rest.find("${") {
        let (before, found) = rest.split_at(start);
        text.push_str(before);
        if let Some((name, default, after)) = variable(found) {
            text.push_str(&lookup(name).unwrap_or_else(|| default.unwrap_or_default().to_owned()));
            rest = after;
        } else {
            text.push_str("${");
            rest = &found[2..];
        }
    }
    text.push_str(rest);
    text
}

/// The name and default of a variable at the beginning of `text`, and what follows it.
fn variable(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let inner = text.strip_prefix("${")?;
    let end = inner.find(['}', ':'])?;
    let (name, rest) = inner.split_at(end);
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((name, None, rest));
    }
    let (default, rest) = rest.strip_prefix(":-")?.split_once('}')?;
    Some((name, Some(default), rest))
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

/// A name and a value; no name for a comment.
type Statement = (Option<String>, Option<String>);

impl<'a> Reader<'a> {
    /// The statement that begins here, with its line end; `None` when it cannot be read.
    fn statement(&mut self) -> Option<Statement> {
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with(is_blank)
        {
            self.take("export".len());
            self.take_while(is_blank);
        }
        let name = match self.peek() {
            Some('#') => None,
            Some('\'') => Some(self.quoted_name()?),
            _ => Some(
                self.take_some(|c| c != '=' && c != '#' && !is_space(c))?
                    .to_owned(),
            ),
        };
        self.take_while(is_blank);
        let value = match self.peek() {
            Some('=') => Some(self.value()?),
            _ => None,
        };
        self.comment();
        self.line_end()?;
        Some((name, value))
    }

    fn quoted_name(&mut self) -> Option<String> {
        let inner = &self.rest[1..];
        let end = inner.find('\'').filter(|end| *end > 0)?;
        self.take(end + 2);
        Some(inner[..end].to_owned())
    }

    fn value(&mut self) -> Option<String> {
        self.take(1);
        let spaces = self.take_while(is_blank);
        match self.peek() {
            // Behind a space it is a comment, at once behind `=` it belongs to the value.
            Some('#') if !spaces.is_empty() => Some(String::new()),
            Some('\'') => self.quoted('\'', |c| matches!(c, '\\' | '\'').then_some(c)),
            Some('"') => self.quoted('"', escaped),
            None | Some('\n') => Some(String::new()),
            Some(_) => Some(without_comment(self.take_while(|c| c != '\n')).to_owned()),
        }
    }

    /// A value in quotes, over several lines perhaps. A backslash that `escape` does not know stays.
    fn quoted(&mut self, quote: char, escape: impl Fn(char) -> Option<char>) -> Option<String> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    let (_, next) = chars.next()?;
                    match escape(next) {
                        Some(meant) => value.push(meant),
                        None => value.extend(['\\', next]),
                    }
                }
                c if c == quote => {
                    self.take(at + 1);
                    return Some(value);
                }
                c => value.push(c),
            }
        }
        None
    }

    fn comment(&mut self) {
        if self.rest.trim_start_matches(is_blank).starts_with('#') {
            self.take_while(|c| c != '\n');
        }
    }

    fn line_end(&mut self) -> Option<()> {
        let rest = self.rest.trim_start_matches(is_blank);
        if !rest.is_empty() && !rest.starts_with('\n') {
            return None;
        }
        self.take(self.rest.len() - rest.len());
        self.take(self.rest.len().min(1));
        Some(())
    }

    fn skip_line(&mut self) {
        self.take_while(|c| c != '\n');
        self.take(self.rest.len().min(1));
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take_some(&mut self, wanted: impl Fn(char) -> bool) -> Option<&'a str> {
        Some(self.take_while(wanted)).filter(|taken| !taken.is_empty())
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// The next `bytes`, which end between characters.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

fn escaped(c: char) -> Option<char> {
    Some(match c {
        '\\' | '\'' | '"' => c,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        _ => return None,
    })
}

/// A value without quotes ends before a `#` that has space before it, and before the space at its end.
fn without_comment(value: &str) -> &str {
    let mut before = None;
    let comment = value
        .char_indices()
        .find(|(_, c)| before.replace(*c).is_some_and(is_space) && *c == '#');
    let end = comment.map_or(value.len(), |(at, _)| at);
    value[..end].trim_end_matches(is_space)
}

/// What Python calls space: four control characters more than Unicode's property.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Space within a line.
fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}

//! The table of files.

use crewfleet_protocol::ResultFile;

/// Whether the content of a file stands in the reply, or may be asked for.
pub(super) fn can_be_had(file: &ResultFile) -> bool {
    file.error.is_none() || file.inlined().is_some()
}

/// Path, bytes and media type; behind them, why a file can't be had.
pub(super) fn table(files: &[ResultFile]) -> String {
    let mut rows = vec![["PATH", "BYTES", "MEDIA TYPE", ""].map(str::to_owned)];
    for file in files {
        let problem = file.error.as_deref().filter(|_| !can_be_had(file));
        rows.push([
            shown(&file.path),
            file.bytes.to_string(),
            shown(file.media_type.as_deref().unwrap_or("-")),
            problem.map_or_else(String::new, |problem| {
                format!("cannot be had: {}", shown(problem))
            }),
        ]);
    }
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (path, bytes, kind) = (width(0), width(1), width(2));
    let lines = rows.iter().map(|[a, b, c, d]| {
        let line = format!("{a:<path$}  {b:>bytes$}  {c:<kind$}  {d}");
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Crews choose names: what a terminal would obey is shown instead.
fn shown(text: &str) -> String {
    let shown = text.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_files() {
        let file = |path: &str, bytes, media_type: Option<&str>, error: Option<&str>| ResultFile {
            path: path.into(),
            bytes,
            media_type: media_type.map(Into::into),
            error: error.map(Into::into),
            ..ResultFile::default()
        };
        let files = [
            file("out/report.md", 1200, Some("text/markdown"), None),
            file("a\u{1b}[2J", 7, None, Some("disk full")),
        ];
        assert_eq!(
            table(&files),
            "PATH           BYTES  MEDIA TYPE\n\
             out/report.md   1200  text/markdown\n\
             a\\u{1b}[2J         7  -              cannot be had: disk full"
        );
    }
}

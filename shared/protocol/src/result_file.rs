//! A file that a kickoff left, as its reply names it.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that the kickoff made or changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResultFile {
    /// Where it was, below the working directory: `/` between the parts, none of them `.` or `..`.
    pub path: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// The SHA-256 of its content, 64 hexadecimal digits. Whoever asks a worker for the file shows it.
    pub sha256: String,
    /// What its name says it is, as in `text/markdown`; `null` when the name says nothing.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The content itself, of small files.
    #[serde(default)]
    pub content: Option<String>,
    /// How `content` is written.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Why the content cannot be had; `null` when it can.
    #[serde(default)]
    pub error: Option<String>,
}

/// Files that a reply does not name: more than it may, or such whose names are no UTF-8. They are not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilesLeftOut {
    /// How many.
    pub count: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// The path of the first, with `?` or `\u{fffd}` for what is no UTF-8.
    pub first: String,
}

/// How the content of a file stands in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    /// As text.
    #[serde(rename = "utf-8")]
    Utf8,
    /// As standard base64, with padding.
    #[serde(rename = "base64")]
    Base64,
}

impl ResultFile {
    /// Puts the content into the reply: as text where it is UTF-8, else as base64.
    pub fn inline(&mut self, content: Vec<u8>) {
        let (content, encoding) = match String::from_utf8(content) {
            Ok(text) => (text, Encoding::Utf8),
            Err(bytes) => (STANDARD.encode(bytes.as_bytes()), Encoding::Base64),
        };
        (self.content, self.encoding) = (Some(content), Some(encoding));
    }

    /// The content, when it stands in the reply.
    pub fn inlined(&self) -> Option<Vec<u8>> {
        let content = self.content.as_ref()?;
        match self.encoding? {
            Encoding::Utf8 => Some(content.clone().into_bytes()),
            Encoding::Base64 => STANDARD.decode(content).ok(),
        }
    }

    /// The same entry without its content.
    #[must_use]
    pub fn without_content(&self) -> Self {
        Self {
            content: None,
            encoding: None,
            ..self.clone()
        }
    }
}

/// Whether a path stays below the folder that it is taken from: not absolute, no empty part, no `.` and no `..`.
pub fn stays_below(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(part) && !path.contains('\0') && Path::new(path).is_relative()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_back_as_they_were() {
        for content in [&b"# Report\n"[..], b"", b"\x89PNG\r\n\xff"] {
            let mut file = ResultFile::default();
            assert_eq!(file.inlined(), None);
            file.inline(content.to_vec());
            assert_eq!(file.inlined().as_deref(), Some(content));
            assert_eq!(file.without_content(), ResultFile::default());
        }
    }

    #[test]
    fn paths_that_leave_their_folder_are_known() {
        for path in ["report.md", "out/a b/ü.png", ".hidden", "..a/b", "a\\b"] {
            assert!(stays_below(path), "{path:?}");
        }
        for path in [
            "",
            "/etc/passwd",
            "..",
            "a/../../b",
            "a//b",
            "./a",
            "a/.",
            "a/",
            "a\0b",
        ] {
            assert!(!stays_below(path), "{path:?}");
        }
    }
}

//! The JSON Schema of a crew's inputs: heartbeats name it by its hash, and whoever wants it asks for it.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// A schema has at most so many bytes: a gateway holds those of all crews.
pub const MAX_BYTES: usize = 64 * 1024;

/// The JSON Schema of a crew's inputs, as its author wrote it: names keep their order, which is that of a form.
#[derive(Clone)]
pub struct InputsSchema {
    json: Arc<RawValue>,
    hash: Arc<str>,
}

/// Why a text is no schema. Nothing of the text is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchema {
    /// It is no JSON, or nested too deep.
    #[error("is no JSON: {0}")]
    NoJson(String),
    /// It is another JSON value.
    #[error(
        "is {0} and no JSON object; write a JSON Schema, as in {{\"type\": \"object\", \"properties\": {{…}}}}"
    )]
    NoObject(&'static str),
    /// It is too large.
    #[error("has {0} bytes, more than the {MAX_BYTES} that a schema may have; shorten it")]
    TooLarge(usize),
}

impl InputsSchema {
    /// Takes the text of a schema. Whether it is a good one is for those who use it.
    ///
    /// # Errors
    /// [`InvalidSchema`].
    pub fn parse(text: &str) -> Result<Self, InvalidSchema> {
        let too_large = |text: &str| match text.len() {
            ..=MAX_BYTES => Ok(()),
            bytes => Err(InvalidSchema::TooLarge(bytes)),
        };
        too_large(text)?;
        let no_json = |error: serde_json::Error| InvalidSchema::NoJson(error.to_string());
        let kind = match serde_json::from_str(text).map_err(no_json)? {
            Value::Object(_) => None,
            Value::Array(_) => Some("an array"),
            Value::String(_) => Some("a text"),
            Value::Number(_) => Some("a number"),
            Value::Bool(_) => Some("true or false"),
            Value::Null => Some("null"),
        };
        if let Some(kind) = kind {
            return Err(InvalidSchema::NoObject(kind));
        }
        let json = RawValue::from_string(without_spaces(text)).map_err(no_json)?;
        let digest = Sha256::digest(json.get());
        Ok(Self {
            hash: hex::encode(&digest[..8]).into(),
            json: json.into(),
        })
    }

    /// The JSON object, without spaces between what it is made of.
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// The first 16 hexadecimal characters of the SHA-256 of that.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

impl Serialize for InputsSchema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl Debug for InputsSchema {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InputsSchema").field(&self.hash).finish()
    }
}

/// A JSON text in one line; its order, its numbers and its texts stay as they are.
fn without_spaces(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let is_needed = |c: &char| {
        let needed = in_text || !c.is_ascii_whitespace();
        in_text ^= *c == '"' && !escaped;
        escaped = in_text && *c == '\\' && !escaped;
        needed
    };
    json.chars().filter(is_needed).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_the_texts_of_an_author_stay() {
        let text = "{ \"type\" : \"object\",\n\t\"properties\": {\"z\": {\"title\": \"a \\\" b \\\\\", \"default\": 1.50},\r\n \"a\": {}}}\n";
        let schema = InputsSchema::parse(text).unwrap();
        let expected = r#"{"type":"object","properties":{"z":{"title":"a \" b \\","default":1.50},"a":{}}}"#;
        assert_eq!(schema.json(), expected);
        assert_eq!(serde_json::to_string(&schema).unwrap(), expected);
        assert_eq!(schema.hash(), InputsSchema::parse(expected).unwrap().hash());
        assert_eq!(schema.hash().len(), 16);
        assert_ne!(schema.hash(), InputsSchema::parse("{}").unwrap().hash());
    }

    #[test]
    fn what_is_no_schema_is_refused_without_a_word_of_it() {
        let refused = |text: &str| InputsSchema::parse(text).unwrap_err().to_string();
        for (text, expected) in [
            ("hunter2", "is no JSON: expected value at line 1 column 1"),
            ("\"hunter2\"", "is a text and no JSON object"),
            ("[\"hunter2\"]", "is an array and no JSON object"),
            ("{\"hunter2\": 1} {}", "is no JSON: trailing characters"),
        ] {
            let error = refused(text);
            assert!(
                error.starts_with(expected) && !error.contains("hunter2"),
                "{error}"
            );
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert!(refused(&deep).contains("recursion limit exceeded"));
        let long = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert!(InputsSchema::parse(&long(MAX_BYTES)).is_ok());
        assert!(refused(&long(MAX_BYTES + 1)).starts_with("has 65537 bytes, more than the 65536"));
    }
}

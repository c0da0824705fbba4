//! An input that is a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands in a request's `inputs` for an input that is a file: an object with the one key `$file`. CrewAI gets it
/// as one of its `input_files`. Any other value, a text above all, stays what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// The file.
    #[serde(rename = "$file")]
    pub file: FileSource,
}

/// A file, by exactly one of `base64`, `data_uri` and `url`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["base64"]}, {"required": ["data_uri"]}, {"required": ["url"]}]))]
pub struct FileSource {
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub base64: Option<String>,
    /// Its bytes, as in `data:image/png;base64,…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub data_uri: Option<String>,
    /// Where it is, `https://` or `http://`; the model's provider fetches it, or the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub url: Option<String>,
    /// What it is, as in `image/png`; without it, that of the data URI, or what its bytes look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its name, without folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

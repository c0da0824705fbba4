//! The file with the JSON Schema of a crew's inputs.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crewfleet_amqp::Problem;
use crewfleet_protocol::InputsSchema;
use crewfleet_protocol::inputs_schema::MAX_BYTES;
use serde::Deserialize;

/// The key `inputs_schema`: a file, and what it holds once the configuration is checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "PathBuf")]
pub struct SchemaFile {
    path: PathBuf,
    schema: Option<InputsSchema>,
}

impl From<PathBuf> for SchemaFile {
    fn from(path: PathBuf) -> Self {
        Self { path, schema: None }
    }
}

impl SchemaFile {
    /// The schema, once it is read.
    pub fn schema(&self) -> Option<&InputsSchema> {
        self.schema.as_ref()
    }

    pub(super) fn read(&mut self, key: &str) -> Result<(), Problem> {
        let file = &self.path;
        let invalid = |problem: String| Problem::new(key, file.display(), problem);
        // One byte more than there may be tells that there are too many; it may be a device, which has no size.
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
        read.map_err(|error| {
            invalid(format!(
                "cannot be read: {error}; name a readable file with the JSON Schema of the crew's inputs (relative paths start \
                 at the configuration file's folder)"
            ))
        })?;
        if bytes.len() > MAX_BYTES {
            return Err(invalid(format!(
                "is larger than the {MAX_BYTES} bytes that a schema may have; shorten it"
            )));
        }
        // The error would quote the file.
        let text = String::from_utf8(bytes).map_err(|_| invalid("is no UTF-8 text".into()))?;
        let schema = InputsSchema::parse(&text).map_err(|error| invalid(error.to_string()))?;
        self.schema = Some(schema);
        Ok(())
    }
}

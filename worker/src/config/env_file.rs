//! The file of a crew's environment variables, read as python-dotenv reads it.

mod parser;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use crewfleet_amqp::Problem;
use crewfleet_service::config::ENVIRONMENT_PREFIX;

use super::CrewConfig;

/// Larger than any environment that Linux passes on by default.
const MOST: u64 = 4 * 1024 * 1024;

impl CrewConfig {
    /// Puts what `env_file` says below `env`. No value of the file is in a problem.
    pub(super) fn read_env_file(&mut self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let Some(file) = &self.env_file else { return Ok(()) };
        let invalid = |problem: String| Problem::new(key("env_file"), file.display(), problem);
        // It may be a pipe or a device, which has no size.
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
        read.map_err(|e| {
            invalid(format!(
                "cannot be read: {e}; name a readable file of NAME=value lines"
            ))
        })?;
        if bytes.len() as u64 > MOST {
            return Err(invalid(format!(
                "is larger than {MOST} bytes: no environment takes that"
            )));
        }
        // The error would quote the file.
        let text = String::from_utf8(bytes).map_err(|_| invalid("is no UTF-8 text".into()))?;
        for (name, value) in variables(&text, &self.env).map_err(invalid)? {
            self.env.entry(name).or_insert(value);
        }
        Ok(())
    }
}

/// What the text of a file says, with `${NAME}` replaced; `given` wins over it.
fn variables(text: &str, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let parser::Statements { bindings, errors } = parser::parse(text);
    if !errors.is_empty() {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        return Err(format!(
            "line {} cannot be read (python-dotenv would skip it); write NAME=value, and quotes in pairs",
            lines.join(", ")
        ));
    }
    let outer = |name: &str| {
        // What is ours no crew may see.
        let own = name.starts_with(&format!("{ENVIRONMENT_PREFIX}__"));
        // Neither is a variable's name: there is none, and asking for it panics on some systems.
        let odd = name.is_empty() || name.contains(['=', '\0']);
        (!own && !odd).then(|| std::env::var(name).ok()).flatten()
    };
    let mut variables = BTreeMap::new();
    for binding in parser::resolve(bindings, |name| given.get(name).cloned(), outer) {
        let Some(value) = binding.value else { continue };
        if binding.name.contains(['=', '\0']) || value.contains('\0') {
            let place = format!("line {}: {:?}", binding.line, binding.name);
            return Err(format!(
                "{place} cannot be a variable: an \"=\" in its name, or a NUL"
            ));
        }
        variables.insert(binding.name, value);
    }
    Ok(variables)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

//! The file of a crew's environment variables.

use crewfleet_shared::config::Problem;

use super::CrewConfig;

impl CrewConfig {
    pub(super) fn read_env_file(&mut self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let Some(file) = &self.env_file else { return Ok(()) };
        let invalid = |problem: String| Problem::new(key("env_file"), file.display(), problem);
        let text = std::fs::read_to_string(file).map_err(|e| {
            invalid(format!(
                "cannot be read: {e}; name a readable file of NAME=value lines"
            ))
        })?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else {
                return Err(invalid(format!("line {} is not NAME=value", number + 1)));
            };
            let value = value.trim();
            let quoted = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            self.env
                .entry(name.trim().to_owned())
                .or_insert_with(|| value.to_owned());
        }
        Ok(())
    }
}

//! Paths in a configuration file start at the folder of that file, wherever a program is started. Those of environment
//! variables and flags start at the working directory, as whoever types them expects.

use std::path::Path;

use config::{Value, ValueKind};

use super::{ConfigError, FROM_ENVIRONMENT, origin};

/// How a key names a file or folder.
#[derive(Clone, Copy)]
enum Kind {
    /// By a path.
    Path,
    /// By a path that has a `/`; other names are looked up in `PATH`.
    Program,
    /// By a path of what is there, with a name behind a colon or without. Python's way to look for others is the
    /// crew's.
    Target,
    /// Each of a list, by a path.
    Paths,
    /// The first of a list, as a program.
    Command,
}

/// Every key that names a file or folder; `*` is any crew, or any sink.
const KEYS: [(&str, Kind); 22] = [
    ("broker.url_file", Kind::Path),
    ("broker.ca_file", Kind::Path),
    ("broker.client_cert_file", Kind::Path),
    ("broker.client_key_file", Kind::Path),
    ("worker.data_dir", Kind::Path),
    ("gateway.tokens_file", Kind::Path),
    ("gateway.tokens_used_file", Kind::Path),
    ("gateway.tls_cert_file", Kind::Path),
    ("gateway.tls_key_file", Kind::Path),
    ("webhooks.secret_file", Kind::Path),
    ("sinks.*.url_file", Kind::Path),
    ("sinks.*.secret_file", Kind::Path),
    ("sinks.*.token_file", Kind::Path),
    ("sinks.*.ca_file", Kind::Path),
    ("sinks.*.path", Kind::Path),
    ("crews.*.python", Kind::Program),
    ("crews.*.path", Kind::Paths),
    ("crews.*.working_dir", Kind::Path),
    ("crews.*.env_file", Kind::Path),
    ("crews.*.inputs_schema", Kind::Path),
    ("crews.*.target", Kind::Target),
    ("crews.*.command", Kind::Command),
];

/// Makes the paths that come from `file` absolute.
pub(super) fn rooted(tree: &mut Value, file: &Path) -> Result<(), ConfigError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    for (pattern, kind) in KEYS {
        let parts: Vec<_> = pattern.split('.').collect();
        descend(tree, &parts, String::new(), &mut |key, value| {
            root(key, value, kind, folder)
        })?;
    }
    Ok(())
}

/// Calls `change` for each value that the pattern names.
fn descend(
    value: &mut Value,
    pattern: &[&str],
    key: String,
    change: &mut impl FnMut(&str, &mut Value) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let Some((first, rest)) = pattern.split_first() else {
        return change(&key, value);
    };
    let ValueKind::Table(table) = &mut value.kind else {
        return Ok(());
    };
    let named = table
        .iter_mut()
        .filter(|(name, _)| *first == "*" || name == first);
    for (name, value) in named {
        let key = if key.is_empty() {
            name.clone()
        } else {
            format!("{key}.{name}")
        };
        descend(value, rest, key, change)?;
    }
    Ok(())
}

fn root(key: &str, value: &mut Value, kind: Kind, folder: &Path) -> Result<(), ConfigError> {
    match (&mut value.kind, kind) {
        (ValueKind::Array(list), Kind::Paths) => {
            for each in list {
                root(key, each, Kind::Path, folder)?;
            }
            Ok(())
        }
        (ValueKind::Array(list), Kind::Command) => match list.first_mut() {
            Some(first) => root(key, first, Kind::Program, folder),
            None => Ok(()),
        },
        (ValueKind::String(_), Kind::Target) => root_target(key, value, folder),
        // What is none is told when the value is read.
        (ValueKind::String(_), Kind::Path | Kind::Program) => root_one(key, value, kind, folder),
        _ => Ok(()),
    }
}

fn root_target(key: &str, value: &mut Value, folder: &Path) -> Result<(), ConfigError> {
    let target = value.to_string();
    let (path, name) = match target.split_once(':') {
        Some((path, name)) => (path, format!(":{name}")),
        None => (target.as_str(), String::new()),
    };
    let is_path = path.contains(['/', '.']) && folder.join(path).exists();
    if !is_path && !path.starts_with('~') {
        return Ok(());
    }
    value.kind = ValueKind::String(path.to_owned());
    root_one(key, value, Kind::Path, folder)?;
    value.kind = ValueKind::String(value.to_string() + &name);
    Ok(())
}

fn root_one(key: &str, value: &mut Value, kind: Kind, folder: &Path) -> Result<(), ConfigError> {
    let from_file = value.origin().is_some_and(|origin| origin != FROM_ENVIRONMENT);
    let origin = origin(key, value.origin());
    let ValueKind::String(path) = &mut value.kind else {
        return Ok(());
    };
    let invalid = |problem: String| ConfigError::Invalid {
        key: key.to_owned(),
        value: format!("{path:?}"),
        origin: origin.clone(),
        problem,
    };
    if path == "~" || path.starts_with("~/") {
        let problem = "\"~\" is the shell's, and means nothing here; write the whole path";
        return Err(invalid(problem.into()));
    }
    let is_path = matches!(kind, Kind::Path) || path.contains('/');
    if !from_file || !is_path || path.is_empty() {
        return Ok(());
    }
    let absolute = std::path::absolute(folder.join(&*path))
        .map_err(|e| invalid(format!("is no path below {}: {e}", folder.display())))?;
    *path = absolute.into_os_string().into_string().map_err(|absolute| {
        let problem = format!(
            "is {} and no UTF-8 text; move the configuration file",
            absolute.display()
        );
        ConfigError::Invalid {
            key: key.to_owned(),
            value: String::new(),
            origin: origin.clone(),
            problem,
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value as Json;

    use crate::config::load;

    #[test]
    fn what_a_file_says_starts_at_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("crewfleet.toml");
        let text = "
            [broker]\nurl_file = \"secrets/url\"\nnamespace = \"a/b\"
            [worker]\ndata_dir = \"/absolute\"
            [gateway]\ntokens_file = \"./tokens.json\"
            [crews.a]\npython = \"venv/bin/python\"\npath = [\"src\", \"/opt/lib\", \".\"]\nworking_dir = \"..\"\nenv_file = \".env\"\ninputs_schema = \"inputs.json\"
            target = \"pkg/crew.jsonc\"
            [crews.b]\npython = \"python3\"\ncommand = [\"./run\", \"./argument\"]
            [crews.c]\ncommand = [\"env\", \"./argument\"]
            [crews.d]\ntarget = \"flows/crew.py:Mine\"
            [crews.e]\ntarget = \".\"
            [crews.f]\ntarget = \"flows.crew:Mine\"";
        std::fs::write(&file, text).unwrap();
        std::fs::create_dir(folder.path().join("flows")).unwrap();
        std::fs::write(folder.path().join("flows/crew.py"), "").unwrap();
        let loaded =
            load::<BTreeMap<String, Json>>(Some(&file), &[("crews.a.env_file".into(), "flag.env".into())]);
        let config = loaded.unwrap().config;
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for (pointer, expected) in [
            ("broker/url_file", at("secrets/url")),
            ("broker/namespace", "a/b".into()),
            ("worker/data_dir", "/absolute".into()),
            ("gateway/tokens_file", at("tokens.json")),
            ("crews/a/python", at("venv/bin/python")),
            ("crews/a/path/0", at("src")),
            ("crews/a/path/1", "/opt/lib".into()),
            ("crews/a/path/2", at("").trim_end_matches('/').into()),
            ("crews/a/working_dir", at("..")),
            ("crews/a/env_file", "flag.env".into()),
            ("crews/a/inputs_schema", at("inputs.json")),
            ("crews/a/target", "pkg/crew.jsonc".into()),
            ("crews/b/python", "python3".into()),
            ("crews/b/command/0", at("run")),
            ("crews/b/command/1", "./argument".into()),
            ("crews/c/command/0", "env".into()),
            ("crews/d/target", at("flows/crew.py:Mine")),
            ("crews/e/target", at("").trim_end_matches('/').into()),
            ("crews/f/target", "flows.crew:Mine".into()),
        ] {
            let (section, rest) = pointer.split_once('/').unwrap();
            let value = config[section].pointer(&format!("/{rest}"));
            let value = value
                .and_then(Json::as_str)
                .unwrap_or_else(|| panic!("{pointer}"));
            assert_eq!(value.trim_end_matches('/'), expected, "{pointer}");
        }
    }

    #[test]
    fn the_shells_home_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("crewfleet.toml");
        std::fs::write(&file, "[crews.a]\npath = [\"~/src\"]").unwrap();
        let error = load::<BTreeMap<String, Json>>(Some(&file), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("crews.a.path = \"~/src\"")
                && error.contains("whole path")
                && error.contains("crewfleet.toml"),
            "{error}"
        );
    }
}

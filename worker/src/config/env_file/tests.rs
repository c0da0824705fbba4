use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::*;

/// A file, and what python-dotenv makes of it: `worker/python/tests/test_env_files.py` asks that for each.
#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    environ: BTreeMap<String, String>,
    values: BTreeMap<String, Option<String>>,
    error_lines: Vec<usize>,
}

#[test]
fn files_are_read_as_python_dotenv_reads_them() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/env_files.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(corpus).unwrap()).unwrap();
    assert!(cases.len() > 50, "{}", cases.len());
    for case in cases {
        let parser::Statements { bindings, errors } = parser::parse(&case.text);
        let outer = |name: &str| case.environ.get(name).cloned();
        let values: BTreeMap<_, _> = parser::resolve(bindings, |_| None, outer)
            .into_iter()
            .map(|binding| (binding.name, binding.value))
            .collect();
        assert_eq!(values, case.values, "{}", case.name);
        assert_eq!(errors, case.error_lines, "{}", case.name);
    }
}

#[test]
fn a_file_that_has_no_end_and_one_that_nobody_reads_are_refused() {
    let refusal = |runner: &str, file: &str| {
        let (target, command) = match runner {
            "builtin" => (Some("echo"), vec![]),
            _ => (None, vec!["cat"]),
        };
        let crew = json!({"runner": runner, "target": target, "command": command, "env_file": file});
        let mut crew: CrewConfig = serde_json::from_value(crew).unwrap();
        format!("{:?}", crew.check("c").unwrap_err())
    };
    let endless = refusal("command", "/dev/zero");
    assert!(
        endless.contains("crews.c.env_file") && endless.contains("larger"),
        "{endless}"
    );
    let unread = refusal("builtin", "/dev/null");
    assert!(
        unread.contains("env_file") && unread.contains("means nothing"),
        "{unread}"
    );
}

#[test]
fn what_is_given_wins_and_is_known_to_the_file() {
    let given = BTreeMap::from([("HOST".to_owned(), "given".to_owned())]);
    let read = variables(
        "HOST=file\nURL=http://${HOST}/${CREWFLEET__BROKER__URL:-none}\n",
        &given,
    )
    .unwrap();
    assert_eq!(read["URL"], "http://given/none");
}

#[test]
fn what_cannot_be_read_is_named_by_line_and_never_shown() {
    for (text, expected) in [
        ("A=1\n\nKEY=\"sk-secret\nB=2\n", "line 3 cannot be read"),
        ("A='x' sk-secret\n=sk-secret\n", "line 1, 2 cannot be read"),
        ("A=1\nKEY='sk-secret\0'\n", "line 2: \"KEY\" cannot be"),
        ("'A=B'=sk-secret\n", "line 1: \"A=B\" cannot be"),
    ] {
        let error = variables(text, &BTreeMap::new()).unwrap_err();
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}

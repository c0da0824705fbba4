//! A kickoff's inputs from the command line: a file, and single values over it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use crewfleet_protocol::{FileSource, InputFile};
use serde_json::value::{RawValue, to_raw_value};

pub(crate) use crewfleet::inputs::missing;

/// How inputs are given, as in `--input TOPIC=… --input AUDIENCE=…`.
pub(crate) fn placeholders<S: AsRef<str>>(names: &[S]) -> String {
    let each = names.iter().map(|name| format!("--input {}=…", name.as_ref()));
    each.collect::<Vec<_>>().join(" ")
}

/// A note on inputs that the crew does not ask for; `None` where it asks for all of them.
pub(crate) fn unasked(crew: &str, asked: &[String], inputs: &RawValue) -> Option<String> {
    let unasked = crewfleet::inputs::unasked(asked, inputs);
    let noun = if unasked.len() == 1 { "input" } else { "inputs" };
    let asked = match asked {
        [] => "it asks for none".to_owned(),
        [only] => format!("its only input is {only}"),
        several => format!("its inputs are {}", several.join(", ")),
    };
    let note = || {
        format!(
            "note: the crew {crew} may not use the {noun} {}; {asked}",
            unasked.join(", ")
        )
    };
    (!unasked.is_empty()).then(note)
}

/// The inputs of a kickoff, as arguments.
#[derive(Args)]
pub(crate) struct GivenInputs {
    /// An input: KEY=VALUE (text), KEY=@FILE (a file's text, or an image, PDF or recording) or KEY:=JSON; may be given
    /// several times
    #[arg(short, long = "input", value_name = "KEY=VALUE")]
    input: Vec<String>,
    /// All inputs: a file with a JSON object, - for stdin
    #[arg(long, value_name = "FILE")]
    inputs: Option<String>,
}

impl GivenInputs {
    /// Those that were given, else `otherwise`, as arguments of `--input`.
    pub(crate) fn gather_or(&self, otherwise: &[String]) -> anyhow::Result<Box<RawValue>> {
        let single = if self.is_empty() { otherwise } else { &self.input };
        gather(self.inputs.as_deref(), single)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.is_none() && self.input.is_empty()
    }
}

/// The JSON of `--meta`.
pub(crate) fn meta(given: Option<&str>) -> anyhow::Result<Option<&RawValue>> {
    given
        .map(serde_json::from_str)
        .transpose()
        .context("--meta is not JSON")
}

/// The inputs of `--inputs FILE|-` with those of `--input` put over them. A file alone is kept byte for byte.
pub(crate) fn gather(file: Option<&str>, single: &[String]) -> anyhow::Result<Box<RawValue>> {
    let base = file.map(read).transpose()?;
    let base = match base {
        Some(base) if single.is_empty() => return Ok(base),
        base => base,
    };
    let mut inputs: BTreeMap<String, Box<RawValue>> = match &base {
        Some(base) => serde_json::from_str(base.get()).context("--inputs: not a JSON object")?,
        None => BTreeMap::new(),
    };
    for argument in single {
        let (key, value) = parse(argument)?;
        inputs.insert(key.to_owned(), value);
    }
    to_raw_value(&inputs).context("the inputs cannot be written as JSON")
}

fn read(file: &str) -> anyhow::Result<Box<RawValue>> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("--inputs -: cannot read stdin")?;
    } else {
        text = std::fs::read_to_string(file)
            .with_context(|| format!("--inputs {file}: the file cannot be read"))?;
    }
    let inputs: Box<RawValue> = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .with_context(|| format!("--inputs {file}: not JSON"))?;
    if !inputs.get().starts_with('{') {
        bail!("--inputs {file}: must hold one JSON object, as in {{\"TOPIC\": \"lamps\"}}");
    }
    Ok(inputs)
}

/// `KEY=VALUE` is text, `KEY=@FILE` the text of a file, or the file itself, `KEY:=JSON` any JSON.
fn parse(argument: &str) -> anyhow::Result<(&str, Box<RawValue>)> {
    let Some((key, value)) = argument.split_once('=') else {
        bail!("--input {argument:?} has no '='; write KEY=VALUE, KEY=@FILE or KEY:=JSON");
    };
    let (key, value) = if let Some(key) = key.strip_suffix(':') {
        let json = serde_json::from_str(value).with_context(|| format!("--input {key}:= is not JSON"))?;
        (key, json)
    } else if let Some(file) = value.strip_prefix('@') {
        let content = std::fs::read(file).with_context(|| {
            format!("--input {key}=@{file}: the file cannot be read (for a text that begins with @: {key}:='\"@…\"')")
        })?;
        (key, of_file(Path::new(file), content)?)
    } else {
        (key, to_raw_value(value)?)
    };
    if key.is_empty() {
        bail!("--input {argument:?} has no key before '='; write KEY=VALUE");
    }
    Ok((key, value))
}

/// A text is an input as any other; images, PDFs, recordings and whatever is no text reach the crew as files.
fn of_file(file: &Path, content: Vec<u8>) -> anyhow::Result<Box<RawValue>> {
    let media_type = mime_guess::from_path(file).first();
    let is_file = media_type.as_ref().is_some_and(|media_type| {
        let kinds = [
            mime_guess::mime::IMAGE,
            mime_guess::mime::AUDIO,
            mime_guess::mime::VIDEO,
        ];
        kinds.contains(&media_type.type_()) || media_type.essence_str() == "application/pdf"
    });
    let content = match String::from_utf8(content) {
        Ok(text) if !is_file => return Ok(to_raw_value(&text)?),
        Ok(text) => text.into_bytes(),
        Err(no_text) => no_text.into_bytes(),
    };
    let source = FileSource {
        base64: Some(STANDARD.encode(content)),
        media_type: media_type.map(|media_type| media_type.essence_str().to_owned()),
        name: file.file_name().map(|name| name.to_string_lossy().into_owned()),
        ..FileSource::default()
    };
    Ok(to_raw_value(&InputFile { file: source })?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn from(file: Option<&str>, single: &[&str]) -> Result<String, String> {
        let single: Vec<_> = single.iter().map(|s| (*s).to_owned()).collect();
        gather(file, &single)
            .map(|inputs| inputs.get().to_owned())
            .map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn values_are_text_files_or_json() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("details.txt");
        std::fs::write(&file, "two\nlines\n").unwrap();
        let by_file = format!("C=@{}", file.display());
        assert_eq!(
            from(None, &["A=1", "B:=[1.50]", &by_file, "D=a=b"]).unwrap(),
            r#"{"A":"1","B":[1.50],"C":"two\nlines\n","D":"a=b"}"#
        );
        assert_eq!(from(None, &[]).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_text_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content, expected) in [
            (
                "photo.png",
                &b"\x89PNG"[..],
                r#"{"A":{"$file":{"base64":"iVBORw==","media_type":"image/png","name":"photo.png"}}}"#,
            ),
            (
                "drawing.svg",
                b"<svg/>",
                r#"{"A":{"$file":{"base64":"PHN2Zy8+","media_type":"image/svg+xml","name":"drawing.svg"}}}"#,
            ),
            (
                "data",
                b"\xff\xfe",
                r#"{"A":{"$file":{"base64":"//4=","name":"data"}}}"#,
            ),
            ("rows.csv", b"a,b", r#"{"A":"a,b"}"#),
            ("notes", "gr\u{fc}n".as_bytes(), "{\"A\":\"gr\u{fc}n\"}"),
        ] {
            let file = dir.path().join(name);
            std::fs::write(&file, content).unwrap();
            let argument = format!("A=@{}", file.display());
            assert_eq!(from(None, &[&argument]).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_alone_is_kept_and_single_values_go_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inputs.json");
        std::fs::write(&file, "{ \"b\": 1.50,\n \"a\": 2 }\n").unwrap();
        let file = file.to_str();
        assert_eq!(from(file, &[]).unwrap(), "{ \"b\": 1.50,\n \"a\": 2 }");
        assert_eq!(from(file, &["a=x"]).unwrap(), r#"{"a":"x","b":1.50}"#);
    }

    #[test]
    fn inputs_that_the_crew_does_not_ask_for_are_noted() {
        let asked = ["topic", "mood", "year"].map(str::to_owned);
        let inputs = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(
            unasked("poet", &asked, &inputs(r#"{"tpoic": "x", "mood": "y"}"#)).unwrap(),
            "note: the crew poet may not use the input tpoic; its inputs are topic, mood, year"
        );
        assert_eq!(
            unasked("poet", &[], &inputs(r#"{"b": 1, "a": 2}"#)).unwrap(),
            "note: the crew poet may not use the inputs a, b; it asks for none"
        );
        assert_eq!(unasked("poet", &asked, &inputs(r#"{"topic": "x"}"#)), None);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (argument, expected) in [
            ("A", "has no '='"),
            ("=1", "no key"),
            ("A:=x", "--input A:= is not JSON"),
            ("A=@/does/not/exist", "--input A=@/does/not/exist"),
        ] {
            assert!(from(None, &[argument]).unwrap_err().contains(expected));
        }
    }
}

//! What a program's end and its stdout mean.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crewfleet_protocol::{KickoffError, KickoffResult};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::execution::outcome::Outcome;
use crate::runner::builtin::INVALID_INPUTS;

/// How much a program may write to stdout: a reply is refused far below this.
pub(super) const MAX_STDOUT: u64 = 64 * 1024 * 1024;

/// A program may say `{"error": {…}}` instead of a result, whatever it exits with.
#[derive(Deserialize)]
struct Refusal {
    error: ProgramError,
}

#[derive(Deserialize)]
struct ProgramError {
    #[serde(default)]
    kind: Option<String>,
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    detail: Option<Box<RawValue>>,
}

/// What the program's end and its stdout mean.
pub(super) fn classify(status: io::Result<ExitStatus>, output: &[u8]) -> Outcome {
    if output.len() as u64 > MAX_STDOUT {
        let message = format!("the program wrote more than {MAX_STDOUT} bytes to stdout");
        return Outcome::Failed(KickoffError::new("result_too_large", message));
    }
    if let Ok(Refusal { error }) = serde_json::from_slice(output) {
        let kind = error.kind.unwrap_or_else(|| "failed".into());
        let error = KickoffError {
            kind,
            message: error.message,
            retryable: error.retryable,
            detail: error.detail,
        };
        return if error.kind == INVALID_INPUTS {
            Outcome::Rejected(error)
        } else {
            Outcome::Failed(error)
        };
    }
    match status {
        Ok(status) if status.success() => result(output),
        Ok(status) => {
            let (code, signal) = (status.code(), status.signal());
            let message = match signal {
                Some(signal) => format!("the program was killed by signal {signal}"),
                None => format!("the program ended with exit code {}", code.unwrap_or(-1)),
            };
            Outcome::Crashed(
                KickoffError::new("crashed", message)
                    .with_detail(&json!({"exit_code": code, "signal": signal})),
            )
        }
        Err(error) => Outcome::Crashed(KickoffError::new(
            "crashed",
            format!("the program was lost: {error}"),
        )),
    }
}

/// An object with the text `raw` is a whole result; any other JSON is the result's `json`, its text the `raw`.
fn result(output: &[u8]) -> Outcome {
    if let Ok(result) = serde_json::from_slice::<KickoffResult>(output) {
        return Outcome::Succeeded(Box::new(result));
    }
    match serde_json::from_slice::<Box<RawValue>>(output) {
        Ok(json) => {
            let raw = serde_json::from_str::<String>(json.get()).unwrap_or_else(|_| json.get().to_owned());
            Outcome::Succeeded(Box::new(KickoffResult {
                raw,
                json: Some(json),
                ..KickoffResult::default()
            }))
        }
        Err(error) => {
            let start: String = String::from_utf8_lossy(&output[..output.len().min(400)]).into_owned();
            let message = format!("the program wrote no JSON to stdout: {error}; it begins with {start:?}");
            Outcome::Failed(KickoffError::new("invalid_output", message))
        }
    }
}

//! What kickoffs wrote, over HTTP: the list, and one file's bytes as they come from the worker that keeps it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use crewfleet_protocol::{Reply, ResultFile};
use serde_json::{Value, json};
use tracing::warn;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::auth::Caller;
use crate::http::handlers;
use crate::tokens::Scope;
use crewfleet::FileError;

/// `GET /files/<kickoff_id>`: what it left, without the contents.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let reply = ended(&gateway, &caller).await?;
    let result = reply.result.as_ref();
    let files = result.map_or(&[][..], |result| &result.files);
    let files: Vec<_> = files.iter().map(ResultFile::without_content).collect();
    Ok(Json(json!({
        "kickoff_id": reply.kickoff_id,
        "files": files,
        "files_left_out": result.and_then(|result| result.files_left_out.as_ref()),
        "files_until": result.and_then(|result| result.files_until),
    })))
}

/// `GET /files/<kickoff_id>/<path>`: its bytes.
pub(crate) async fn get(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Result<Response, ApiError> {
    let reply = ended(&gateway, &caller).await?;
    let content = gateway.client.file(&reply, caller.path()).await?;
    let file = content.file().clone();
    let bytes = content.into_stream();
    let media_type = file.media_type.as_deref().unwrap_or("application/octet-stream");
    let headers = [
        (header::CONTENT_TYPE, media_type.to_owned()),
        (header::CONTENT_LENGTH, file.bytes.to_string()),
        (header::CONTENT_DISPOSITION, attachment(&file.path)),
        (header::ETAG, format!("\"{}\"", file.sha256)),
        // What a crew wrote is shown by no browser as a page of ours.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let mut response = Body::from_stream(bytes).into_response();
    for (name, value) in headers {
        // A crew may have made up its media type.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// The reply of a kickoff that has ended.
async fn ended(gateway: &Gateway, caller: &Caller) -> Result<Arc<Reply>, ApiError> {
    caller.identity.require(Scope::Read)?;
    let details = handlers::known(gateway, caller).await?;
    if !details.kickoff.standing.state.is_over() {
        let message = "The execution has not ended yet; what it wrote is known then";
        return Err(ApiError::Invalid(message.into()));
    }
    let reply = handlers::reply(&details);
    reply.ok_or_else(ApiError::reply_gone)
}

/// A file's name, as RFC 6266 has it: whatever characters it has.
fn attachment(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded: String = name
        .bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    format!("attachment; filename*=UTF-8''{encoded}")
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Client(error) => error.into(),
            FileError::Unknown { .. } => Self::NotFound(error.to_string()),
            FileError::NotKept { .. } => Self::Gone(error.to_string()),
            FileError::NoAnswer { .. } | FileError::Damaged { .. } => {
                warn!(%error, "a file is not served");
                Self::unavailable(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_header_of_its_own() {
        assert_eq!(
            attachment("out/report.md"),
            "attachment; filename*=UTF-8''report.md"
        );
        assert_eq!(
            attachment("ü \"\r\nX: 1"),
            "attachment; filename*=UTF-8''%C3%BC%20%22%0D%0AX%3A%201"
        );
    }
}

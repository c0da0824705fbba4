//! Bodies that are JSON objects.

use serde::Deserialize;

/// Reads one. `form` shows what one looks like.
///
/// # Errors
/// Why it is none, for its sender.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], form: &str) -> Result<T, String> {
    let refused = |why: &str| format!("The body is not a JSON object as in {form}: {why}");
    // A list would be taken for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused("it does not begin with \"{\"; send JSON"));
    }
    serde_json::from_slice(body).map_err(|e| refused(&e.to_string()))
}

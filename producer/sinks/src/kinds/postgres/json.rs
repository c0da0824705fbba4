//! JSON as PostgreSQL takes it. Its texts have no zero byte: one that a crew wrote becomes the character for what cannot be
//! shown.

use std::borrow::Cow;

/// The escape that JSON has for a zero byte …
const ZERO: &[u8] = br"\u0000";
/// … and the one that stands in its place.
const REPLACEMENT: &[u8] = br"\ufffd";

/// The same JSON without zero bytes in its texts.
pub(super) fn without_zeros(json: &[u8]) -> Cow<'_, [u8]> {
    if !json.windows(ZERO.len()).any(|window| window == ZERO) {
        return Cow::Borrowed(json);
    }
    let (mut clean, mut rest) = (Vec::with_capacity(json.len()), json);
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let (before, escape) = rest.split_at(at);
        clean.extend_from_slice(before);
        // An escaped backslash is two bytes, so what follows it is no escape.
        let (written, length) = match escape.starts_with(ZERO) {
            true => (REPLACEMENT, ZERO.len()),
            false => (&escape[..escape.len().min(2)], escape.len().min(2)),
        };
        clean.extend_from_slice(written);
        rest = &escape[length..];
    }
    clean.extend_from_slice(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_bytes_are_replaced_and_what_only_looks_like_one_is_not() {
        for (json, expected) in [
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            (r#"["a\u0000b\u0000"]"#, r#"["a\ufffdb\ufffd"]"#),
            (r#"["\\u0000"]"#, r#"["\\u0000"]"#),
            (
                r#"["\\\u0000", "\\u0000", "\u0001\""]"#,
                r#"["\\\ufffd", "\\u0000", "\u0001\""]"#,
            ),
        ] {
            assert_eq!(without_zeros(json.as_bytes()), expected.as_bytes(), "{json}");
        }
    }
}

//! Whose a kickoff is: the tenant of its token, in `meta.tenant`, where no caller can write another one.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::http::api_error::ApiError;
use crate::http::identity::Identity;

/// The `meta` of a kickoff that this caller starts.
pub(crate) fn meta_for(
    identity: &Identity,
    meta: Option<Box<RawValue>>,
) -> Result<Option<Box<RawValue>>, ApiError> {
    match identity.tenant() {
        Some(tenant) => tenant_meta(meta.as_deref(), tenant).map(Some),
        None => Ok(meta),
    }
}

/// `meta` with this tenant. The rest of it stays as it came, byte for byte.
///
/// # Errors
/// 422 where it is no object, or names another tenant: whoever does so must not believe that it was heard.
pub(crate) fn tenant_meta(meta: Option<&RawValue>, tenant: &str) -> Result<Box<RawValue>, ApiError> {
    let own = Value::from(tenant).to_string();
    let meta = meta.map_or("null", RawValue::get).trim();
    let with_tenant = match meta.strip_prefix('{') {
        None if meta == "null" => format!("{{\"tenant\":{own}}}"),
        None => {
            return Err(ApiError::validation(
                "meta is not a JSON object; this token has a tenant, which is written into meta.tenant",
            ));
        }
        Some(rest) => match named(meta, tenant)? {
            Named::Own => meta.to_owned(),
            Named::None if rest.trim_start() == "}" => format!("{{\"tenant\":{own}}}"),
            Named::None => format!("{{\"tenant\":{own},{rest}"),
            Named::Other => {
                return Err(ApiError::validation(format!(
                    "meta.tenant is not {own}, which is the tenant of this token; leave it out"
                )));
            }
        },
    };
    RawValue::from_string(with_tenant).map_err(|e| unreadable(&e))
}

/// Which tenant an object names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    None,
    Own,
    Other,
}

/// Looks at each field of that name: of two, readers of JSON take the one or the other.
fn named(meta: &str, tenant: &str) -> Result<Named, ApiError> {
    struct Tenants<'a>(&'a str);

    impl<'de> Visitor<'de> for Tenants<'_> {
        type Value = Named;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
            let mut named = Named::None;
            while let Some(field) = map.next_key::<String>()? {
                if field != "tenant" {
                    map.next_value::<IgnoredAny>()?;
                } else if map.next_value::<Value>()? != self.0 {
                    named = Named::Other;
                } else if named == Named::None {
                    named = Named::Own;
                }
            }
            Ok(named)
        }
    }

    let mut meta = serde_json::Deserializer::from_str(meta);
    meta.deserialize_map(Tenants(tenant)).map_err(|e| unreadable(&e))
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    ApiError::validation(format!("meta is not a JSON object: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(meta: &str, tenant: &str) -> Result<String, ApiError> {
        let meta = RawValue::from_string(meta.into()).unwrap();
        tenant_meta(Some(&meta), tenant).map(|meta| meta.get().to_owned())
    }

    #[test]
    fn the_tenant_is_added_and_the_rest_stays_as_it_came() {
        assert_eq!(tenant_meta(None, "acme").unwrap().get(), r#"{"tenant":"acme"}"#);
        for (meta, expected) in [
            ("null", r#"{"tenant":"acme"}"#),
            ("{}", r#"{"tenant":"acme"}"#),
            ("{ }", r#"{"tenant":"acme"}"#),
            (
                r#"{"b": 1.50, "a": 12345678901234567890123}"#,
                r#"{"tenant":"acme","b": 1.50, "a": 12345678901234567890123}"#,
            ),
            (
                r#"{"deep": {"tenant": "other"}}"#,
                r#"{"tenant":"acme","deep": {"tenant": "other"}}"#,
            ),
            (r#"{"a": 1, "tenant": "acme"}"#, r#"{"a": 1, "tenant": "acme"}"#),
        ] {
            assert_eq!(with(meta, "acme").unwrap(), expected);
        }
        let quoted = with("{}", "a \"b\"\\").unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&quoted).unwrap()["tenant"],
            "a \"b\"\\"
        );
    }

    #[test]
    fn no_other_tenant_is_passed_on_however_it_is_written() {
        for meta in [
            r#"{"tenant": "other"}"#,
            r#"{"tenant": null}"#,
            r#"{"tenant": ["acme"]}"#,
            r#"{"\u0074enant": "other"}"#,
            r#"{"tenant": "acme", "tenant": "other"}"#,
            r#"{"tenant": "other", "a": 1, "tenant": "acme"}"#,
        ] {
            let refused = with(meta, "acme").unwrap_err();
            let told = format!("{refused:?}");
            assert!(
                told.contains("meta.tenant is not") && !told.contains("other"),
                "{meta}: {told}"
            );
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for meta in ["7", "\"acme\"", "[]", "true"] {
            let told = format!("{:?}", with(meta, "acme").unwrap_err());
            assert!(told.contains("not a JSON object"), "{meta}: {told}");
        }
    }
}

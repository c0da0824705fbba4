//! Where a webhook is called.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

/// The longest URL, in characters.
pub const MAX_URL_CHARS: usize = 2_048;

/// An absolute URL, `https://` or `http://`, with a host, without a user, a password and a fragment.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct WebhookUrl(
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s][^#\s]*$")
    )]
    String,
);

impl WebhookUrl {
    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookUrl {
    /// What is wrong, and what to do.
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let chars = value.chars().count();
        if chars > MAX_URL_CHARS {
            return Err(format!(
                "has {chars} characters; at most {MAX_URL_CHARS} are taken: give a shorter URL"
            ));
        }
        let refused = |why: &str| {
            let value = shown(value);
            Err(format!("is {value:?}: {why}"))
        };
        // Readers of URLs drop some of these, each in its own way.
        if value
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '\\')
        {
            return refused(
                "a URL has no spaces, control characters and backslashes; take them out, or write them as in %20",
            );
        }
        let lower = value.to_ascii_lowercase();
        let behind = lower
            .strip_prefix("https://")
            .or_else(|| lower.strip_prefix("http://"));
        let Some(behind) = behind else {
            return refused("it is no absolute URL; begin it with https:// or http://");
        };
        // The parser would take the path for one.
        if behind.is_empty() || behind.starts_with(['/', '?', '#']) {
            return refused("it has no host; give one as in https://example.org/hook");
        }
        let url = match Url::parse(value) {
            Ok(url) => url,
            Err(error) => {
                return refused(&format!(
                    "it is no URL ({error}); give one as in https://example.org/hook"
                ));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refused(
                "it has a user or a password, which logs would show; take them out, and give authentication, or a query",
            );
        }
        if url.fragment().is_some() {
            return refused("it has a fragment (#…), which is never sent; take it out");
        }
        Ok(Self(value.to_owned()))
    }
}

impl<'de> Deserialize<'de> for WebhookUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

// Neither its path nor its query is shown, which may be secrets.
impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The scheme and the host of what may be a URL: neither a user, nor a password, nor a path, nor a query.
pub(super) fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    let scheme = value
        .find("://")
        .filter(|end| value[..*end].bytes().all(|b| b.is_ascii_alphanumeric()));
    let (scheme, rest) = value.split_at(scheme.map_or(0, |end| end + 3));
    let ends: &[char] = match scheme {
        // What comes before a colon may be a user.
        "" => &['/', '?', '#', '\\', ':'],
        _ => &['/', '?', '#', '\\'],
    };
    let (authority, behind) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("…@", host),
        None => ("", authority),
    };
    let short: String = host.chars().take(LONGEST).collect();
    let more = match behind {
        "" | "/" if short.len() == host.len() => "",
        path if path.starts_with('/') => "/…",
        _ => "…",
    };
    let scheme: String = scheme.chars().take(LONGEST).collect();
    format!("{scheme}{user}{short}{more}")
}

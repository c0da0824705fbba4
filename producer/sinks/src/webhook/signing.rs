//! Signatures of calls, in two forms: Standard Webhooks, and the one that CrewAI AMP has for human input.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// What the secrets of Standard Webhooks begin with; base64 follows.
const PREFIX: &str = "whsec_";
/// How many bytes such a secret has.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Signs calls. Without a secret it signs none, and says only which call it is, and when.
#[derive(Clone, Default)]
pub(crate) struct Signer {
    secrets: Vec<Secret>,
}

#[derive(Clone)]
struct Secret {
    /// What stands behind the prefix, decoded.
    key: Hmac<Sha256>,
    /// All of it, as text: AMP's form takes it so.
    text: Hmac<Sha256>,
}

impl Signer {
    /// With one secret, or, while they are changed, with several between spaces: Standard Webhooks' form has a signature by
    /// each, the other one is by the first.
    ///
    /// # Errors
    /// What is wrong with a secret, without it.
    pub(crate) fn new(secrets: &SecretString) -> Result<Self, &'static str> {
        let secrets = secrets.expose_secret().split_whitespace().map(|text| {
            let encoded = text
                .strip_prefix(PREFIX)
                .ok_or("a secret begins with whsec_; make one with: echo whsec_$(openssl rand -base64 32)")?;
            let key = BASE64_STANDARD.decode(encoded).map_err(
                |_| "what follows whsec_ is no base64; make one with: echo whsec_$(openssl rand -base64 32)",
            )?;
            if !BYTES.contains(&key.len()) {
                return Err(
                    "a secret has 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32)",
                );
            }
            let hmac = |key: &[u8]| Hmac::new_from_slice(key).map_err(|_| "the secret is no key");
            Ok(Secret {
                key: hmac(&key)?,
                text: hmac(text.as_bytes())?,
            })
        });
        Ok(Self {
            secrets: secrets.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it signs.
    pub(crate) fn signs(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The headers of a call.
    pub(crate) fn headers(&self, id: &str, timestamp: i64, body: &[u8]) -> HeaderMap {
        let timestamp = timestamp.to_string();
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            // Ids, numbers, base64 and hexadecimal digits.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("webhook-id", id);
        set("webhook-timestamp", &timestamp);
        let Some(first) = self.secrets.first() else {
            return headers;
        };
        let signatures = self.secrets.iter().map(|secret| {
            let signature = signed(&secret.key, &[id.as_bytes(), timestamp.as_bytes(), body]);
            format!("v1,{}", BASE64_STANDARD.encode(signature))
        });
        set("webhook-signature", &signatures.collect::<Vec<_>>().join(" "));
        set("x-timestamp", &timestamp);
        let signature = signed(&first.text, &[timestamp.as_bytes(), body]);
        set("x-signature", &format!("sha256={}", hex::encode(signature)));
        headers
    }
}

/// The signature of these parts, with dots between them.
fn signed(key: &Hmac<Sha256>, parts: &[&[u8]]) -> impl AsRef<[u8]> + use<> {
    let mut mac = key.clone();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            mac.update(b".");
        }
        mac.update(part);
    }
    mac.finalize().into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn signer(secrets: &str) -> Signer {
        Signer::new(&secrets.into()).unwrap()
    }

    fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).unwrap().to_str().unwrap()
    }

    #[test]
    fn the_example_of_standard_webhooks_comes_out() {
        // https://github.com/standard-webhooks/standard-webhooks, its libraries' own test.
        let body = br#"{"test": 2432232314}"#;
        let headers = signer(SECRET).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(
            header(&headers, "webhook-signature"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(header(&headers, "webhook-timestamp"), "1614265330");
        // As `printf '1614265330.{"test": 2432232314}' | openssl dgst -sha256 -hmac whsec_MfKQ…` says.
        assert_eq!(header(&headers, "x-timestamp"), "1614265330");
        assert_eq!(
            header(&headers, "x-signature"),
            "sha256=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"
        );
    }

    #[test]
    fn while_secrets_are_changed_there_is_a_signature_by_each() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let both = signer(&format!("{other} {SECRET}")).headers("a", 1, b"{}");
        let [one, two] = [other, SECRET].map(|secret| signer(secret).headers("a", 1, b"{}"));
        let expected = [&one, &two]
            .map(|headers| header(headers, "webhook-signature"))
            .join(" ");
        assert_eq!(header(&both, "webhook-signature"), expected);
        assert_eq!(header(&both, "x-signature"), header(&one, "x-signature"));
    }

    #[test]
    fn without_a_secret_a_call_says_only_which_it_is() {
        let headers = signer("").headers("a", 1, b"{}");
        assert!(!signer("").signs());
        assert_eq!(headers.len(), 2);
        for (secret, problem) in [
            ("hunter2", "whsec_"),
            ("whsec_hunter2!", "base64"),
            ("whsec_aHVudGVyMg==", "24 to 64"),
        ] {
            let error = Signer::new(&secret.into()).err().unwrap();
            assert!(error.contains(problem) && !error.contains("hunter2"), "{error}");
        }
    }
}

//! Short digests, for what is compared and shown, not for what must withstand an attacker.

use sha2::{Digest, Sha256};

/// The first 16 hexadecimal characters of the SHA-256 of `bytes`.
pub(crate) fn short(bytes: &[u8]) -> String {
    shorten(&Sha256::digest(bytes).into())
}

/// The first 16 hexadecimal characters of a SHA-256.
pub(crate) fn shorten(digest: &[u8; 32]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

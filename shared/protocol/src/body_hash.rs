//! What tells requests of one id apart: two bodies, two kickoffs.

/// The `body_hash` of replies and of what workers tell each other: the first 16 hexadecimal characters of the SHA-256 of a
/// request's body.
pub fn body_hash(sha256: &[u8; 32]) -> String {
    hex::encode(&sha256[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_beginning_of_the_digest() {
        let mut digest = [0xee; 32];
        digest[..8].copy_from_slice(&[0, 1, 0x2a, 0xff, 4, 5, 6, 0x70]);
        assert_eq!(body_hash(&digest), "00012aff04050670");
    }
}

//! Certificates and keys in PEM files, and what is wrong with those that hold none.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::problem::Problem;

/// The certificates of the file that this key of the configuration names; at least one.
///
/// # Errors
/// A [`Problem`] with the key.
pub fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(all) if all.is_empty() => Err(unreadable(key, file, "certificate", &pem::Error::NoItemsFound)),
        Ok(all) => Ok(all),
        Err(error) => Err(unreadable(key, file, "certificate", &error)),
    }
}

/// The first private key of the file that this key of the configuration names.
///
/// # Errors
/// A [`Problem`] with the key, which quotes nothing of the file.
pub fn private_key(key: &str, file: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| unreadable(key, file, "private key", &e))
}

fn unreadable(key: &str, file: &Path, what: &str, error: &pem::Error) -> Problem {
    let problem = match error {
        pem::Error::Io(error) => format!("cannot be read: {error}; name a readable PEM file"),
        pem::Error::NoItemsFound => {
            format!("holds no {what} in PEM form (-----BEGIN …); name a PEM file with one")
        }
        // What it found may be the key itself, and is not repeated.
        _ => format!(
            "is no PEM file with a {what}: its lines -----BEGIN … and -----END … stand alone, with base64 between them; has it \
             lost its line breaks?"
        ),
    };
    Problem::new(key, file.display(), problem)
}

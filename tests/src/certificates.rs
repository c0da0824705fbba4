//! Certificates that a test makes for itself, as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority. Its files, and those of what it issued, go with it.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its private key, in PEM files.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Authority {
    /// One of this name, that nobody knows.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-ca-")
            .tempdir()
            .expect("a temporary folder");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(dir.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self {
            issuer: Issuer::new(params, key),
            dir,
        }
    }

    /// The folder of its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A server's, for these names and addresses, in the files `<file>.pem` and `<file>-key.pem`.
    pub fn server(&self, file: &str, names: &[&str]) -> Identity {
        self.issue(file, Self::params(names, ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// A server's that expired on 2 January 2020.
    pub fn expired_server(&self, file: &str, names: &[&str]) -> Identity {
        let mut params = Self::params(names, ExtendedKeyUsagePurpose::ServerAuth);
        params.not_before = date_time_ymd(2019, 1, 2);
        params.not_after = date_time_ymd(2020, 1, 2);
        self.issue(file, params)
    }

    /// A client's, whose common name is the user.
    pub fn client(&self, user: &str) -> Identity {
        let mut params = Self::params(&[], ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, user);
        self.issue(user, params)
    }

    fn params(names: &[&str], purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.extended_key_usages = vec![purpose];
        params
    }

    fn issue(&self, file: &str, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let written = |name: String, text: String| {
            let path = self.dir.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        Identity {
            certificate: written(format!("{file}.pem"), certificate.pem()),
            key: written(format!("{file}-key.pem"), key.serialize_pem()),
        }
    }
}

//! The system's CA certificates. A store has hundreds, whose parsing costs more than a connection, so they are parsed
//! again only when their files have changed; a reconnecting fleet looks at these files' dates alone.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;

/// What is trusted on this machine.
static SYSTEM: SystemRoots = SystemRoots(Mutex::new(None));

struct SystemRoots(Mutex<Option<Parsed>>);

struct Parsed {
    seen: Vec<Seen>,
    roots: Arc<RootCertStore>,
}

/// A file, or folder, as it was when it was parsed.
#[derive(PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    identity: Option<Identity>,
}

#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Written by the kernel at each change, so nobody sets it back.
    changed: (i64, i64),
}

/// The CAs of the system, as they are now.
pub fn system_roots() -> Arc<RootCertStore> {
    SYSTEM.get(&places(), || {
        let mut roots = RootCertStore::empty();
        // Stores have old certificates in them that cannot be read; nobody misses these.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

impl SystemRoots {
    fn get(&self, places: &[PathBuf], parse: impl FnOnce() -> RootCertStore) -> Arc<RootCertStore> {
        let mut parsed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what changes meanwhile is seen the next time.
        let seen = look(places);
        match &*parsed {
            Some(parsed) if parsed.seen == seen => Arc::clone(&parsed.roots),
            _ => {
                let roots = Arc::new(parse());
                *parsed = Some(Parsed {
                    seen,
                    roots: Arc::clone(&roots),
                });
                roots
            }
        }
    }
}

/// Where `rustls_native_certs` looks.
fn places() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name);
    let file = variable("SSL_CERT_FILE").map(PathBuf::from);
    let folders = variable("SSL_CERT_DIR");
    let folders = std::env::split_paths(folders.as_deref().unwrap_or(OsStr::new("")));
    let mut places: Vec<_> = file
        .into_iter()
        .chain(folders)
        .filter(|place| !place.as_os_str().is_empty())
        .collect();
    if places.is_empty() {
        let found = openssl_probe::probe();
        places.extend(found.cert_file.into_iter().chain(found.cert_dir));
    }
    places
}

/// The places, and what is in those that are folders.
fn look(places: &[PathBuf]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for place in places {
        seen.push(Seen::now(place));
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries.map(|entry| entry.path()).collect();
        entries.sort_unstable();
        seen.extend(entries.iter().map(|entry| Seen::now(entry)));
    }
    seen
}

impl Seen {
    fn now(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: fs::metadata(path).ok().map(|metadata| Identity::of(&metadata)),
        }
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_parsed_again_when_their_files_change_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let (bundle, certs) = (folder.path().join("bundle.pem"), folder.path().join("certs"));
        fs::create_dir(&certs).unwrap();
        fs::write(&bundle, "one").unwrap();
        fs::write(certs.join("a.pem"), "a").unwrap();
        let store = SystemRoots(Mutex::new(None));
        let places = [bundle.clone(), certs.clone()];
        let parsed = |expected: bool, what: &str| {
            let mut parsed = false;
            let first = store.get(&places, || {
                parsed = true;
                RootCertStore::empty()
            });
            assert_eq!(parsed, expected, "{what}");
            let same = store.get(&places, || unreachable!("nothing has changed since"));
            assert!(Arc::ptr_eq(&first, &same));
        };
        parsed(true, "the first time");
        parsed(false, "nothing has changed");
        fs::write(&bundle, "one and two").unwrap();
        parsed(true, "a bundle that is written over");
        let new = folder.path().join("new");
        fs::write(&new, "one and 2!!").unwrap();
        fs::rename(new, &bundle).unwrap();
        parsed(true, "a bundle that another one replaces");
        fs::write(certs.join("b.pem"), "b").unwrap();
        parsed(true, "a certificate that is new");
        fs::write(certs.join("a.pem"), "longer").unwrap();
        parsed(true, "a certificate that is written over");
        fs::remove_file(certs.join("a.pem")).unwrap();
        parsed(true, "a certificate that is gone");
    }

    #[test]
    fn the_system_is_parsed_once_for_all_connections() {
        assert!(Arc::ptr_eq(&system_roots(), &system_roots()));
    }
}

//! What a program has left in its kickoff's folder, as its reply names it. Python crews make this list themselves.

use std::fs;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crewfleet_protocol::{FilesLeftOut, ResultFile};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::source::Source;

/// How much of its files a reply names and holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// So many files are named.
    pub(crate) files: usize,
    /// So many bytes of contents stand in the reply, together.
    pub(crate) inline_bytes: u64,
}

/// Lists the files below `folder`, by path, and says what there is no room for: what is nearest to the top is listed
/// first, and a name that is no UTF-8 is not. Links are neither listed nor followed. Blocks.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn list(folder: &Path, limits: Limits) -> io::Result<(Vec<ResultFile>, Option<FilesLeftOut>)> {
    let source = Source::open(folder, folder)?;
    let (mut found, mut unnamed) = (Vec::new(), Vec::new());
    for entry in WalkDir::new(folder).min_depth(1).follow_links(false) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        // Below `folder` by its making.
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        match path.to_str() {
            Some(name) => found.push((entry.depth(), name.to_owned())),
            None => unnamed.push(path.to_owned()),
        }
    }
    found.sort();
    let more = found.split_off(limits.files.min(found.len()));
    let more = more.into_iter().map(|(_, name)| PathBuf::from(name));
    let left_out: Vec<PathBuf> = more.chain(unnamed).collect();
    let mut room = limits.inline_bytes;
    let mut files: Vec<_> = found
        .iter()
        .map(|(_, name)| one(&source, name, &mut room))
        .collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok((files, told(folder, &left_out)))
}

fn told(folder: &Path, left_out: &[PathBuf]) -> Option<FilesLeftOut> {
    let bytes = |path: &PathBuf| fs::symlink_metadata(folder.join(path)).map_or(0, |metadata| metadata.len());
    let first = left_out.first()?.to_string_lossy().into_owned();
    Some(FilesLeftOut {
        count: left_out.len() as u64,
        bytes: left_out.iter().map(bytes).sum(),
        first,
    })
}

fn one(source: &Source, path: &str, room: &mut u64) -> ResultFile {
    let mut file = ResultFile {
        path: path.to_owned(),
        media_type: mime_guess::from_path(path).first_raw().map(ToOwned::to_owned),
        ..ResultFile::default()
    };
    if let Err(error) = read(source, &mut file, room) {
        file.error = Some(format!("it cannot be read: {error}"));
    }
    file
}

fn read(source: &Source, file: &mut ResultFile, room: &mut u64) -> io::Result<()> {
    let mut opened = source.file(&file.path)?;
    let small = opened.metadata()?.len() <= *room;
    let mut content = Vec::new();
    file.sha256 = sha256(&mut opened, |part| {
        file.bytes += part.len() as u64;
        if small {
            content.extend_from_slice(part);
        }
    })?;
    if small && file.bytes <= *room {
        *room -= file.bytes;
        file.inline(content);
    }
    Ok(())
}

/// The SHA-256 of what `file` holds from where it stands, in hexadecimal digits; `each` is shown each part of it.
pub(super) fn sha256(file: &mut File, mut each: impl FnMut(&[u8])) -> io::Result<String> {
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 128 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(digest.finalize())),
            length => {
                digest.update(&buffer[..length]);
                each(&buffer[..length]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_listed_by_path_and_small_ones_stand_in_the_reply() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/b.md"), "# b\n").unwrap();
        fs::write(dir.path().join("a.png"), [0x89, b'P', 0xff]).unwrap();
        fs::write(dir.path().join("z"), "far too long").unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let limits = Limits {
            files: 3,
            inline_bytes: 8,
        };
        let (files, left_out) = list(dir.path(), limits).unwrap();
        let named: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.bytes))
            .collect();
        assert_eq!(named, [("a.png", 3), ("out/b.md", 4), ("z", 12)]);
        assert_eq!(files[0].media_type.as_deref(), Some("image/png"));
        assert_eq!(files[0].inlined().as_deref(), Some(&[0x89, b'P', 0xff][..]));
        assert_eq!(files[1].content.as_deref(), Some("# b\n"));
        assert_eq!((&files[2].content, &files[2].media_type), (&None, &None));
        assert_eq!(files[1].sha256, hex::encode(Sha256::digest("# b\n")));
        assert!(files.iter().all(|file| file.error.is_none()) && left_out.is_none());
    }

    #[test]
    fn what_a_reply_has_no_room_for_is_counted_and_what_is_nearest_to_the_top_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        for name in ["a/deep", "b", "c", "d"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::write(dir.path().join(OsStr::from_bytes(b"\xff")), "x").unwrap();
        let limits = Limits {
            files: 2,
            inline_bytes: 100,
        };
        let (files, left_out) = list(dir.path(), limits).unwrap();
        let named: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(named, ["b", "c"]);
        let expected = FilesLeftOut {
            count: 3,
            bytes: 8,
            first: "d".into(),
        };
        assert_eq!(left_out, Some(expected));
    }
}

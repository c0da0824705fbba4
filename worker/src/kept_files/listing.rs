//! What a program has left in its kickoff's folder, as its reply names it. Python crews make this list themselves.

use std::io::{self, Read};
use std::path::Path;

use crewfleet_shared::kickoff::ResultFile;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::source::Source;

/// How much of its files a reply names and holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many files are named.
    pub files: usize,
    /// So many bytes of contents stand in the reply, together.
    pub inline_bytes: u64,
}

/// Lists the files below `folder`, by path. Links are neither listed nor followed. Blocks.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path, limits: Limits) -> io::Result<Vec<ResultFile>> {
    let source = Source::open(folder, folder)?;
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).min_depth(1).follow_links(false) {
        let entry = entry?;
        if entry.file_type().is_file() {
            // Below `folder` by its making.
            let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            found.push(path.to_owned());
        }
    }
    found.sort();
    let left_out = found.len().saturating_sub(limits.files);
    // The first that is too much is named, too: it says what became of the rest.
    found.truncate(limits.files + 1);
    let mut room = limits.inline_bytes;
    let mut files = Vec::with_capacity(found.len());
    for (number, path) in found.iter().enumerate() {
        let mut file = match path.to_str() {
            Some(path) => one(&source, path, &mut room),
            None => ResultFile {
                path: path.to_string_lossy().into_owned(),
                error: Some("its name is not UTF-8".into()),
                ..ResultFile::default()
            },
        };
        if number == limits.files {
            let (limit, others) = (limits.files, left_out - 1);
            file = file.without_content();
            file.error = Some(format!(
                "not kept, as {others} files after it: a reply names at most {limit} (max_files)"
            ));
        }
        files.push(file);
    }
    Ok(files)
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
    let (mut digest, mut content, mut buffer) = (Sha256::new(), Vec::new(), vec![0; 128 * 1024]);
    loop {
        let length = opened.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(&buffer[..length]);
        file.bytes += length as u64;
        if small {
            content.extend_from_slice(&buffer[..length]);
        }
    }
    file.sha256 = hex::encode(digest.finalize());
    if small && file.bytes <= *room {
        *room -= file.bytes;
        file.inline(content);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        let files = list(dir.path(), limits).unwrap();
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
        assert!(files.iter().all(|file| file.error.is_none()));
    }

    #[test]
    fn more_files_than_a_reply_names_are_told_of_with_the_first_of_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let limits = Limits {
            files: 2,
            inline_bytes: 100,
        };
        let files = list(dir.path(), limits).unwrap();
        let errors: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.error.is_some()))
            .collect();
        assert_eq!(errors, [("a", false), ("b", false), ("c", true)]);
        let error = files[2].error.as_deref().unwrap();
        assert!(
            error.contains("1 files after it") && error.contains("at most 2 (max_files)"),
            "{error}"
        );
        assert_eq!(files[2].content, None);
    }
}

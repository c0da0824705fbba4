use std::os::unix::fs::MetadataExt;

use super::listing::{Limits, list};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const LIMITS: Limits = Limits {
    files: 10,
    inline_bytes: 0,
};

struct Data {
    dir: tempfile::TempDir,
    retention: Arc<Retention>,
}

impl Data {
    fn new(disk_limit: u64) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            retention: Arc::new(Retention::new(disk_limit)),
        }
    }

    /// A worker on this data folder.
    fn worker(&self, name: &str, keep: Duration) -> KeptFiles {
        let own = self.dir.path().join(name);
        KeptFiles::new(self.dir.path(), &own, name, keep, Arc::clone(&self.retention))
    }

    /// The result of a program that has left these files.
    fn left(&self, files: &[(&str, &str)], limits: Limits) -> (PathBuf, KickoffResult) {
        let work = self.dir.path().join("work").join(Uuid::now_v7().to_string());
        for (path, content) in files {
            let path = work.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let (files, _) = list(&work, limits).unwrap();
        let result = KickoffResult {
            files,
            ..KickoffResult::default()
        };
        (work, result)
    }

    fn kept(
        &self,
        worker: &KeptFiles,
        id: &KickoffId,
        redrive: u32,
        files: &[(&str, &str)],
    ) -> KickoffResult {
        let (work, mut result) = self.left(files, LIMITS);
        worker.keep(id, redrive, &mut result, left(&work));
        result
    }
}

fn left(work: &Path) -> Left<'_> {
    Left {
        work_dir: work,
        files_dir: Some(work),
        in_use: false,
    }
}

fn asked(id: &KickoffId, result: &KickoffResult, number: usize) -> FilePart {
    FilePart {
        kickoff_id: id.to_string(),
        redrive: None,
        path: result.files[number].path.clone(),
        sha256: result.files[number].sha256.clone(),
        offset: 0,
        length: u64::MAX,
    }
}

fn text(files: &KeptFiles, asked: &FilePart) -> Option<String> {
    let part = files.read(asked).unwrap()?;
    Some(String::from_utf8(part.data).unwrap())
}

#[tokio::test]
async fn files_are_moved_and_served_in_parts_by_any_worker_of_the_folder() {
    let data = Data::new(1 << 20);
    let id = KickoffId::generate();
    let worker = data.worker("first", DAY);
    let result = data.kept(&worker, &id, 0, &[("out/a.md", "abcdef"), ("b", "")]);
    assert!(result.files_until.is_some_and(|until| until > Utc::now()));
    let other = data.worker("second", DAY);
    let whole = asked(&id, &result, 1);
    assert_eq!(text(&other, &whole).as_deref(), Some("abcdef"));
    let middle = FilePart {
        offset: 2,
        length: 3,
        ..whole.clone()
    };
    assert_eq!(text(&worker, &middle).as_deref(), Some("cde"));
    let beyond = FilePart {
        offset: 100,
        ..whole.clone()
    };
    let part = worker.read(&beyond).unwrap().unwrap();
    assert_eq!((part.bytes_total, part.data.len()), (6, 0));
    assert_eq!(text(&worker, &asked(&id, &result, 0)).as_deref(), Some(""));
    // Private, as all that a kickoff has.
    let folder = fs::read_dir(data.dir.path().join("files").join(id.as_str()))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    for file in fs::read_dir(&folder).unwrap().flatten() {
        assert_eq!(
            file.metadata().unwrap().mode() & 0o777,
            0o600,
            "{:?}",
            file.path()
        );
    }
    // Nothing else is there to be had, by whatever path.
    for path in ["manifest.json", "0", "../first", "a.md", "/etc/passwd"] {
        let other = FilePart {
            path: path.into(),
            ..whole.clone()
        };
        assert_eq!(text(&worker, &other), None, "{path}");
    }
    for (kickoff_id, sha256) in [("../files", whole.sha256.as_str()), (id.as_str(), "")] {
        let other = FilePart {
            kickoff_id: kickoff_id.into(),
            sha256: sha256.into(),
            ..whole.clone()
        };
        assert_eq!(text(&worker, &other), None, "{kickoff_id} {sha256}");
    }
}

#[tokio::test]
async fn each_redrive_has_its_files_and_two_runs_of_one_stand_side_by_side() {
    let data = Data::new(1 << 20);
    let id = KickoffId::generate();
    let (first, second) = (data.worker("first", DAY), data.worker("second", DAY));
    let results = [
        data.kept(&first, &id, 0, &[("a", "first")]),
        data.kept(&second, &id, 0, &[("a", "second")]),
        data.kept(&first, &id, 1, &[("a", "third")]),
    ];
    for (result, content) in results.iter().zip(["first", "second", "third"]) {
        assert_eq!(text(&second, &asked(&id, result, 0)).as_deref(), Some(content));
    }
    let of_another = FilePart {
        redrive: Some(0),
        ..asked(&id, &results[2], 0)
    };
    assert_eq!(text(&first, &of_another), None);
}

#[tokio::test]
async fn what_cannot_be_kept_says_so_in_its_entry() {
    let data = Data::new(13);
    let id = KickoffId::generate();
    let worker = data.worker("worker", DAY);
    let limits = Limits {
        inline_bytes: 3,
        ..LIMITS
    };
    let files = [
        ("a", "small"),
        ("b", "changed"),
        ("c", "gone"),
        ("d", "much too large"),
        ("e", "in"),
    ];
    let (work, mut result) = data.left(&files, limits);
    fs::write(work.join("b"), "another length").unwrap();
    fs::remove_file(work.join("c")).unwrap();
    fs::remove_file(work.join("e")).unwrap();
    worker.keep(&id, 0, &mut result, left(&work));
    let errors: Vec<_> = result
        .files
        .iter()
        .map(|file| file.error.as_deref().unwrap_or("none"))
        .collect();
    assert_eq!(errors[0], "none");
    assert!(errors[1].contains("changed after"), "{errors:?}");
    assert!(errors[2].contains("No such file"), "{errors:?}");
    assert!(errors[3].contains("disk_limit"), "{errors:?}");
    assert_eq!(errors[4], "none", "it stands in the reply");
    assert_eq!(text(&worker, &asked(&id, &result, 0)).as_deref(), Some("small"));

    // What still runs there may rewrite a file in its length.
    let (work, mut result) = data.left(&[("a", "before"), ("b", "steady")], LIMITS);
    fs::write(work.join("a"), "behind").unwrap();
    let still = Left {
        in_use: true,
        ..left(&work)
    };
    worker.keep(&id, 1, &mut result, still);
    let errors: Vec<_> = result.files.iter().map(|file| file.error.as_deref()).collect();
    assert_eq!(errors, [Some("it was changed after it was listed"), None]);

    // Where nothing is kept, only what stands in the reply can be had.
    let none = data.worker("none", Duration::ZERO);
    let (work, mut result) = data.left(&[("a", "in"), ("b", "not in")], limits);
    none.keep(&id, 0, &mut result, left(&work));
    let errors: Vec<_> = result.files.iter().map(|file| file.error.is_some()).collect();
    assert_eq!((errors, result.files_until), (vec![false, true], None));
    assert!(result.files[1].error.as_deref().unwrap().contains("keep_files_s"));
}

#[tokio::test]
async fn the_time_of_files_ends_over_restarts_and_the_oldest_make_room() {
    let data = Data::new(12);
    let ids = [(); 4].map(|()| KickoffId::generate());
    let worker = data.worker("worker", DAY);
    let over = data.worker("short", Duration::from_millis(1));
    let results = [
        data.kept(&over, &ids[0], 0, &[("a", "over")]),
        data.kept(&worker, &ids[1], 0, &[("a", "oldest")]),
        data.kept(&worker, &ids[2], 0, &[("a", "middle")]),
        data.kept(&worker, &ids[3], 0, &[("a", "newest")]),
    ];
    // A worker that knows nothing of them but what stands on the disk.
    let fresh = Data {
        retention: Arc::new(Retention::new(12)),
        dir: data.dir,
    };
    let next = fresh.worker("next", DAY);
    next.look();
    assert_eq!(next.bytes(), 22);
    fresh.retention.tidy().await;
    assert_eq!(next.bytes(), 12);
    let had = ids
        .iter()
        .zip(&results)
        .map(|(id, result)| text(&next, &asked(id, result, 0)).is_some());
    assert_eq!(had.collect::<Vec<_>>(), [false, false, true, true]);
    let left = fs::read_dir(fresh.dir.path().join("files")).unwrap().count();
    assert_eq!(left, 2, "the folders of kickoffs without files are gone");
}

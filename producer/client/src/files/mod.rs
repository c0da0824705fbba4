//! The files of kickoffs: small ones stand in the reply, the others are asked of the worker that keeps them, part by
//! part.
//!
//! ```no_run
//! # use crewfleet::{KickoffClient, KickoffId, FileError};
//! # use futures_util::TryStreamExt;
//! # async fn example(client: &KickoffClient, id: &KickoffId) -> Result<(), FileError> {
//! if let Some(reply) = client.find_reply(id).await? {
//!     let mut content = client.file(&reply, "report.md").await?.into_stream();
//!     while let Some(bytes) = content.try_next().await? {
//!         println!("{} bytes", bytes.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod error;

use std::pin::Pin;
use std::sync::Arc;

use crewfleet_protocol::query::MAX_PART;
use crewfleet_protocol::{Answered, FilePart, Question, Reply, ResultFile, answer};
use futures_util::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};

pub use self::error::{FileError, PATIENCE};
use crate::client::KickoffClient;

/// How many parts are on their way at once.
const AT_ONCE: usize = 4;

/// A file of a kickoff: its beginning is here, or all of it.
pub struct FileContent {
    file: ResultFile,
    beginning: Vec<u8>,
    rest: Option<Rest>,
}

/// Whom the rest of a file is asked of.
#[derive(Clone)]
struct Rest {
    client: KickoffClient,
    asked: Arc<FilePart>,
    worker: Arc<str>,
    reply: Arc<Reply>,
}

/// A file's content, in order.
pub type FileStream = Pin<Box<dyn Stream<Item = Result<Vec<u8>, FileError>> + Send>>;

impl KickoffClient {
    /// The content of a file that the reply names. Returns when its beginning is there.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn file(&self, reply: &Reply, path: &str) -> Result<FileContent, FileError> {
        let files = reply.result.as_ref().map_or(&[][..], |result| &result.files);
        let file = files.iter().find(|file| file.path == path);
        let file = file.ok_or_else(|| FileError::Unknown {
            kickoff_id: reply.kickoff_id.clone(),
            path: path.to_owned(),
        })?;
        if let Some(beginning) = file.inlined() {
            return Ok(FileContent {
                file: file.clone(),
                beginning,
                rest: None,
            });
        }
        if let Some(reason) = &file.error {
            return Err(FileError::NotKept {
                path: path.to_owned(),
                reason: reason.clone(),
            });
        }
        let asked = FilePart {
            kickoff_id: reply.kickoff_id.clone(),
            redrive: Some(reply.redrive),
            path: file.path.clone(),
            sha256: file.sha256.clone(),
            offset: 0,
            length: MAX_PART,
        };
        let mut rest = Rest {
            client: self.clone(),
            asked: Arc::new(asked),
            worker: reply.worker.as_str().into(),
            // Its texts may be large, and only how to get at files is needed of it.
            reply: Arc::new(Reply {
                result: None,
                meta: None,
                ..reply.clone()
            }),
        };
        let until = reply.result.as_ref().and_then(|result| result.files_until);
        let (beginning, worker) = rest.part(0, file.bytes, until).await?;
        // Whoever has it, has all of it.
        rest.worker = worker.into();
        Ok(FileContent {
            file: file.without_content(),
            beginning,
            rest: Some(rest),
        })
    }
}

impl FileContent {
    /// What the reply says of it.
    pub fn file(&self) -> &ResultFile {
        &self.file
    }

    /// All of it, in order. Its last bytes come only when all together are what the reply says: a stream that ends
    /// without an error has the right content.
    pub fn into_stream(self) -> FileStream {
        let Self {
            file,
            beginning,
            rest,
        } = self;
        let bytes = file.bytes;
        let offsets = (1..bytes.div_ceil(MAX_PART).max(1)).map(|part| part * MAX_PART);
        let rest = stream::iter(offsets.zip(std::iter::repeat(rest)))
            .map(move |(offset, rest)| async move {
                match rest {
                    Some(rest) => rest.part(offset, bytes, None).await.map(|(data, _)| data),
                    // What stands in the reply is all there.
                    None => Ok(Vec::new()),
                }
            })
            .buffered(AT_ONCE);
        let parts = stream::once(async { Ok(beginning) }).chain(rest);
        Box::pin(checked(file, parts))
    }
}

impl Rest {
    /// The part at an offset, and who has it.
    async fn part(
        &self,
        offset: u64,
        bytes: u64,
        until: Option<chrono::DateTime<chrono::Utc>>,
    ) -> Result<(Vec<u8>, String), FileError> {
        let asked = FilePart {
            offset,
            ..FilePart::clone(&self.asked)
        };
        let damaged = || FileError::Damaged {
            path: asked.path.clone(),
        };
        let question = Question::File(asked.clone());
        if let Some(answer) = self.client.ask(&self.worker, question, PATIENCE).await? {
            return match answer.answer {
                Answered::Missing { reason } => Err(FileError::NotKept {
                    path: asked.path,
                    reason,
                }),
                Answered::File {
                    offset: at,
                    bytes_total,
                    data,
                    ..
                } => {
                    let data = answer::data(&data).ok_or_else(damaged)?;
                    let expected = bytes.saturating_sub(offset).min(MAX_PART);
                    match at == offset && bytes_total == bytes && data.len() as u64 == expected {
                        true => Ok((data, answer.worker)),
                        false => Err(damaged()),
                    }
                }
                Answered::Kickoffs { .. } | Answered::InputsSchema { .. } => Err(damaged()),
            };
        }
        Err(FileError::NoAnswer {
            kickoff_id: self.reply.kickoff_id.clone(),
            worker: self.worker.to_string(),
            until,
        })
    }
}

/// The parts, the last one held back until all are known to be right.
fn checked(
    file: ResultFile,
    parts: impl Stream<Item = Result<Vec<u8>, FileError>> + Send + 'static,
) -> impl Stream<Item = Result<Vec<u8>, FileError>> + Send {
    struct State<S> {
        parts: Pin<Box<S>>,
        held: Option<Vec<u8>>,
        digest: Sha256,
        file: ResultFile,
        over: bool,
    }
    let state = State {
        parts: Box::pin(parts),
        held: None,
        digest: Sha256::new(),
        file,
        over: false,
    };
    stream::unfold(state, |mut state| async move {
        while !state.over {
            match state.parts.next().await {
                Some(Ok(part)) => {
                    state.digest.update(&part);
                    if let Some(held) = state.held.replace(part) {
                        return Some((Ok(held), state));
                    }
                }
                Some(Err(error)) => {
                    state.over = true;
                    return Some((Err(error), state));
                }
                None => {
                    state.over = true;
                    let is_right = hex::encode(state.digest.clone().finalize()) == state.file.sha256;
                    let last = match is_right {
                        true => Ok(state.held.take().unwrap_or_default()),
                        false => Err(FileError::Damaged {
                            path: state.file.path.clone(),
                        }),
                    };
                    return Some((last, state));
                }
            }
        }
        None
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    fn inlined(content: &str, sha256: String) -> FileContent {
        let mut file = ResultFile {
            path: "a".into(),
            bytes: content.len() as u64,
            sha256,
            ..ResultFile::default()
        };
        file.inline(content.into());
        FileContent {
            beginning: file.inlined().unwrap(),
            file,
            rest: None,
        }
    }

    #[tokio::test]
    async fn nothing_of_another_content_ends_well() {
        let digest = |text: &str| hex::encode(Sha256::digest(text));
        for content in ["", "right"] {
            let parts: Vec<_> = inlined(content, digest(content))
                .into_stream()
                .try_collect()
                .await
                .unwrap();
            assert_eq!(parts.concat(), content.as_bytes());
        }
        let mut wrong = inlined("wrong", digest("right")).into_stream();
        assert!(matches!(wrong.next().await, Some(Err(FileError::Damaged { .. }))));
        assert!(wrong.next().await.is_none());
    }
}

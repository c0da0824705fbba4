//! The keys of a crew that choose among words.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Makes an enum of words, which is read from a configuration, and tells which there are when it is given another:
/// `strum` says only that none matches.
macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $variant,)+ }

        impl $name {
            /// Its name in configuration, frames and heartbeats.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                match word.as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(D::Error::custom(unknown(&word, &[$($word),+]))),
                }
            }
        }
    };
}

fn unknown(word: &str, words: &[&str]) -> String {
    format!("must be one of {}, not \"{word}\"", words.join(", "))
}

choice! {
    /// How a crew is run.
    RunnerKind {
        /// A CrewAI crew, in a process of its own.
        Python = "python",
        /// Any program.
        Command = "command",
        /// Rust, in this process.
        Builtin = "builtin",
    }
}

choice! {
    /// How Python children come to be.
    #[derive(Default)]
    Isolation {
        /// Forked from a host that has imported the crew.
        #[default]
        Fork = "fork",
        /// A fresh interpreter, where forking is not safe.
        Spawn = "spawn",
    }
}

choice! {
    /// How a kickoff sees the project without changing it.
    #[derive(Default)]
    WorkingDirWay {
        /// An overlay where the kernel allows it, else links.
        #[default]
        Auto = "auto",
        /// An overlay on the project's own path; the crew is refused where the kernel allows none.
        Overlay = "overlay",
        /// A folder with copies of small files and links to the rest.
        Links = "links",
    }
}

choice! {
    /// Where CrewAI keeps its memory and databases.
    #[derive(Default)]
    Storage {
        /// In the kickoff's own folder: no kickoff sees another's memory.
        #[default]
        Kickoff = "kickoff",
        /// In one folder of the crew.
        Shared = "shared",
    }
}

choice! {
    /// What to do with a kickoff that another worker may have started already.
    #[derive(Default)]
    OnRedelivery {
        /// Run it again: at least once.
        #[default]
        Run = "run",
        /// Fail it: at most once, for crews with costly side effects.
        Fail = "fail",
    }
}

choice! {
    /// What an input that the crew's texts ask for, and that is missing, means.
    #[derive(Default)]
    InputsCheck {
        /// The kickoff is rejected, naming it.
        #[default]
        Strict = "strict",
        /// The braces may be meant: a name that is missing stays in the text as it is.
        Lenient = "lenient",
    }
}

choice! {
    /// How the delays between attempts grow.
    #[derive(Default)]
    Backoff {
        /// Always `delay_s`.
        Fixed = "fixed",
        /// `delay_s`, then `factor` times as long after each attempt, up to `max_delay_s`.
        #[default]
        Exponential = "exponential",
    }
}

choice! {
    /// What follows when the hard time limit has passed.
    #[derive(Default)]
    OnTimeout {
        /// The reply `timed_out`: another attempt would most likely take as long, and costs as much.
        #[default]
        Fail = "fail",
        /// Another attempt, while there is one left.
        Retry = "retry",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_word_is_refused_with_those_there_are() {
        let read = |text| serde_json::from_str::<RunnerKind>(text).map_err(|error| error.to_string());
        assert_eq!(read("\"command\""), Ok(RunnerKind::Command));
        let error = read("\"pyton\"").unwrap_err();
        assert!(
            error.starts_with("must be one of python, command, builtin, not \"pyton\""),
            "{error}"
        );
    }
}

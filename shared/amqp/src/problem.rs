//! A value of the configuration that cannot be used.

/// An invalid value, before its origin is looked up.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The key, `section.name`.
    pub key: String,
    /// The value; leave a secret's out.
    pub value: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

impl Problem {
    /// A problem with the value of a key.
    pub fn new(key: impl Into<String>, value: impl std::fmt::Display, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.to_string(),
            problem: problem.into(),
        }
    }
}

//! What a token is good for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Start kickoffs.
    Kickoff,
    /// See what there is: a kickoff's status, its files, the inputs of crews, lists.
    Read,
    /// Act on what there is: cancel, retry, pause, redrive, purge.
    Operate,
    /// Everything, also what a scope is made for later.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kickoff, Self::Read, Self::Operate, Self::Admin];

    /// Those of a token that names none, as all tokens did once.
    pub const USUAL: [Self; 3] = [Self::Kickoff, Self::Read, Self::Operate];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kickoff => "kickoff",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// The scope of a name.
    ///
    /// # Errors
    /// Where it is none: which there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|scope| scope.as_str() == name);
        named.ok_or_else(|| format!("{name:?} is no scope; there are {}", in_words(&Self::ALL)))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Their names, as in a list.
pub fn in_words(scopes: &[Scope]) -> String {
    let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_one_name_everywhere() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(Scope::parse(scope.as_str()), Ok(scope));
        }
        let told = Scope::parse("write").unwrap_err();
        assert!(
            told.contains("\"write\"") && told.contains("kickoff, read"),
            "{told}"
        );
    }
}

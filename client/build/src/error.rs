//! One error for everything here: a code that has a page, and the compiler's own words.

use phala_primitives::{Code, Coded};

/// Why there is no bundle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{coded}")]
pub struct Error {
    /// What went wrong, by number, and the case at hand.
    pub coded: Coded,
    /// What the compiler, or another program, said; empty if none was asked. For people, to be shown as it is.
    pub output: String,
}

/// What functions of this crate return.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { coded: Coded::new(code, detail), output: String::new() }
    }

    pub(crate) fn with_output(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    /// A file or folder that cannot be read or written.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Code::BuildFailed, format!("{}: {error}", path.display()))
    }
}

impl From<Coded> for Error {
    fn from(coded: Coded) -> Self {
        Self { coded, output: String::new() }
    }
}

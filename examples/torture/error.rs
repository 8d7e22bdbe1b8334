//! Why there are no results.

/// Whatever went wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a run ended without results.
pub enum Error {
    /// The arguments or the servers they name cannot be used.
    BadInput(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

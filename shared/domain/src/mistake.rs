//! A mistake in a section of the configuration.

/// The first mistake that the check of a whole section found.
#[derive(Debug)]
pub(crate) struct Mistake {
    /// The path of the key, such as `route[0].paths`.
    pub(crate) key: String,
    /// What is wrong, and what to write instead.
    pub(crate) reason: String,
}

impl Mistake {
    pub(crate) fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

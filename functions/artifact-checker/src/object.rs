//! Objects by name.

use serde::{Deserialize, Serialize};

/// One object, or one version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The bucket.
    pub bucket: String,
    /// The key, any characters.
    pub key: String,
    /// The version; none is the latest.
    pub version: Option<String>,
}

/// After which object a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The key.
    pub key: String,
    /// The version, in a listing of all.
    pub version: Option<String>,
}

/// An object as a listing has it; listings don't tell of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key, decoded.
    pub key: String,
    /// The version, in a listing of all.
    pub version: Option<String>,
    /// Whether it is the latest.
    pub latest: bool,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the listing's order; delete markers are left out.
    pub objects: Vec<Listed>,
    /// Where the next begins, if there is one.
    pub end: Option<Position>,
}

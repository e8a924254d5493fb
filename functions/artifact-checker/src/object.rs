//! S3 objects: their names, their listings, and what S3 reports about them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::{Deserialize, Serialize};

/// The characters to encode in a part of a URL: all except RFC 3986's unreserved characters.
pub(crate) const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The characters to encode in an object's path. Slashes stay, because they separate folders.
pub(crate) const PATH: &AsciiSet = &PART.remove(b'/');

/// The function's own reports begin with this prefix. No sweep checks them.
pub(crate) const REPORTS: &str = "sekisho-reports/";

/// The name of one object, or of one version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectId {
    pub(crate) bucket: String,
    /// The object's key, which may contain any character.
    pub(crate) key: String,
    /// The version; `None` means the latest.
    pub(crate) version: Option<String>,
}

/// The last object of a listed page. The next page begins after this object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListPosition {
    pub(crate) key: String,
    /// The version, in a listing of all versions.
    pub(crate) version: Option<String>,
}

/// An object in a listing. Listings do not contain encryption keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListedObject {
    pub(crate) key: String,
    /// The version, in a listing of all versions.
    pub(crate) version: Option<String>,
    /// Whether this version is the object's latest.
    pub(crate) is_latest: bool,
    /// When the object was written, in seconds since 1970. For an upload in parts, this is the beginning of the upload.
    #[serde(default)]
    pub(crate) written: Option<i64>,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListPage {
    /// The objects in the listing's order, without delete markers.
    pub(crate) objects: Vec<ListedObject>,
    /// The position at the end of this page; `None` if this page is the last.
    pub(crate) end: Option<ListPosition>,
}

impl ListPage {
    /// Drops the objects after the last key of a range. If the page reaches that key, it is the last page of the range.
    pub(crate) fn within(mut self, last: Option<&str>) -> Self {
        let Some(last) = last else { return self };
        self.objects.retain(|object| object.key.as_str() <= last);
        // If the page ends with a version of the last key, the next page may begin with further versions of that key.
        let is_past = |end: &ListPosition| end.key.as_str() > last || (end.key == last && end.version.is_none());
        self.end = self.end.filter(|end| !is_past(end));
        self
    }
}

/// How an object is encrypted, according to S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// The object is under S3's own keys (`AES256`), or is not encrypted because it was written before 2023.
    S3Managed,
    /// The object is encrypted with `aws:kms`, under the key of this name.
    Kms(String),
    /// The object is encrypted in two layers with `aws:kms:dsse`, under the key of this name.
    DualLayer(String),
    /// The object has an encryption that this function does not know. The text is the name of that encryption.
    Other(String),
}

impl Encryption {
    /// The KMS key's name that S3 reports; `None` if the object is under no known KMS key.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Kms(key) | Self::DualLayer(key) => Some(key),
            Self::S3Managed | Self::Other(_) => None,
        }
    }

    /// The encryption, in words.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::S3Managed => "S3's own key".to_owned(),
            Self::Kms(key) => key.clone(),
            Self::DualLayer(key) => format!("{key} (DSSE)"),
            Self::Other(name) => name.clone(),
        }
    }
}

/// The part of a HEAD response on which decisions depend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectFacts {
    pub(crate) encryption: Encryption,
    /// The entity tag, which changes with every write.
    pub(crate) etag: String,
    /// The version; `None` in a bucket without versioning.
    pub(crate) version: Option<String>,
    /// The size in bytes.
    pub(crate) size: u64,
    /// Whether the object is in an archive tier and not restored.
    pub(crate) is_archived: bool,
    /// Whether a retention or a legal hold protects the object.
    pub(crate) is_locked: bool,
    /// Whether S3 uses the S3 Bucket Key for the object.
    pub(crate) has_bucket_key: bool,
}

impl ObjectFacts {
    /// Whether `self` and `other` describe the same version with the same content.
    pub(crate) fn is_same_version(&self, other: &Self) -> bool {
        self.version == other.version && self.etag == other.etag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(end: Option<(&str, Option<&str>)>) -> ListPage {
        let object = |key: &str| ListedObject { key: key.to_owned(), version: None, is_latest: true, written: None };
        let end = end.map(|(key, version)| ListPosition { key: key.to_owned(), version: version.map(str::to_owned) });
        ListPage { objects: ["a", "b", "c"].map(object).into(), end }
    }

    #[test]
    fn a_page_of_a_range_ends_with_the_last_key_of_the_range() {
        let within = |end, last| {
            let page = page(end).within(last);
            (page.objects.len(), page.end.is_some())
        };
        assert_eq!(within(Some(("c", None)), None), (3, true));
        assert_eq!(within(Some(("c", None)), Some("d")), (3, true));
        assert_eq!(within(Some(("c", None)), Some("c")), (3, false));
        assert_eq!(within(Some(("c", Some("1"))), Some("c")), (3, true));
        assert_eq!(within(Some(("c", Some("1"))), Some("bb")), (2, false));
        assert_eq!(within(None, Some("a")), (1, false));
    }
}

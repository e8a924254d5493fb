//! The lines of the manifests with which S3 Batch Operations repairs objects.

use std::collections::BTreeMap;

use percent_encoding::utf8_percent_encode;

use crate::object::PATH;

/// Lines of manifests, by whether their objects get the S3 Bucket Key.
#[derive(Debug, Clone, Default)]
pub(crate) struct ManifestLines {
    pub(crate) lines: BTreeMap<bool, String>,
    pub(crate) count: u64,
}

impl ManifestLines {
    /// Adds an object. All lines of a manifest name a version, or none does.
    pub(crate) fn add(&mut self, bucket_key: bool, bucket: &str, key: &str, version: Option<&str>) {
        let lines = self.lines.entry(bucket_key).or_default();
        lines.extend([bucket, ","].into_iter().chain(utf8_percent_encode(key, PATH)));
        lines.extend(version.iter().flat_map(|version| [",", version]));
        lines.push('\n');
        self.count += 1;
    }

    pub(crate) fn extend(&mut self, others: Self) {
        for (bucket_key, lines) in others.lines {
            self.lines.entry(bucket_key).or_default().push_str(&lines);
        }
        self.count += others.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_manifest_have_encoded_keys() {
        let mut lines = ManifestLines::default();
        lines.add(true, "b", "a b/ü,\"+%\n.zip", None);
        lines.add(true, "b", "~x-_.y", None);
        lines.add(false, "b", "k", Some("v"));
        assert_eq!(lines.lines[&true], "b,a%20b/%C3%BC%2C%22%2B%25%0A.zip\nb,~x-_.y\n");
        assert_eq!((lines.lines[&false].as_str(), lines.count), ("b,k,v\n", 3));
    }
}

//! The example events in `events/<function>/`. For each file, the function's tests have a case.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// The text of an example event.
///
/// # Panics
/// If there is no such file.
#[must_use]
pub fn file(function: &str, name: &str) -> String {
    let path = directory(function).join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of a function's example events, without their extension.
#[must_use]
pub fn names(function: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(directory(function)).unwrap();
    files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Asserts that every file has exactly one case, and that every case has a file.
///
/// # Panics
/// If a file or a case is missing, or a file has two cases.
pub fn assert_complete<'c>(function: &str, cases: impl IntoIterator<Item = &'c str>) {
    let mut known = BTreeSet::new();
    for case in cases {
        assert!(known.insert(case.to_owned()), "two cases for {case}");
    }
    assert_eq!(names(function), known, "the files of events/{function}, and the cases");
}

fn directory(function: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events").join(function)
}

//! Reads the completion report of a job of S3 Batch Operations.

use std::mem;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// The list of the files of a report.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    #[serde(rename = "Results", default)]
    files: Vec<File>,
}

/// A file with results.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct File {
    #[serde(rename = "TaskExecutionStatus")]
    status: String,
    #[serde(rename = "Key")]
    pub(crate) key: String,
}

impl Listing {
    /// The files in the order in which they are read. A key may have several versions, and if one of them failed, its
    /// finding must stay open, so the failed tasks come first.
    pub(crate) fn files(mut self) -> Vec<File> {
        self.files.sort_by_key(|file| (file.status != "failed", file.key.clone()));
        self.files
    }
}

/// The result of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskResult {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version: Option<String>,
    /// Why the task failed; `None` if it succeeded.
    pub(crate) failure: Option<Failure>,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whether the object does not exist any more.
    pub(crate) is_gone: bool,
    /// S3's error code, HTTP status and message, in words.
    pub(crate) answer: String,
}

/// Reads a line of a report: bucket, key, version, status, HTTP status, error code and message. `None` if it is
/// malformed. The schema that S3 writes beside the results names the error code before the HTTP status, and AWS's
/// examples have it after the HTTP status, so the number is the HTTP status.
pub(crate) fn result(fields: &[String]) -> Option<TaskResult> {
    let [bucket, key, version, status, first, second, message, ..] = fields else { return None };
    let (http, code) = if first.trim().parse::<u16>().is_ok() { (first, second) } else { (second, first) };
    let trim = |field: &String| field.trim().to_owned();
    let failure = match status.trim() {
        "succeeded" => None,
        "failed" => Some(Failure {
            is_gone: http.trim() == "404",
            answer: format!("{} ({}): {}", trim(code), trim(http), trim(message)),
        }),
        _ => return None,
    };
    let key = percent_decode_str(&key.replace('+', " ")).decode_utf8().ok()?.into_owned();
    (!key.is_empty()).then(|| TaskResult {
        bucket: trim(bucket),
        key,
        version: Some(trim(version)).filter(|version| !version.is_empty()),
        failure,
    })
}

/// Splits the beginning of a CSV file into its complete lines. Returns their fields and the number of their bytes. A
/// field in quotes may contain line breaks. If `is_last`, the last line need not end with a line break.
pub(crate) fn lines(bytes: &[u8], is_last: bool) -> (Vec<Vec<String>>, usize) {
    let (mut lines, mut line, mut field) = (Vec::new(), Vec::new(), Vec::new());
    let (mut in_quotes, mut closed_at, mut read) = (false, None, 0);
    let text = |field: &mut Vec<u8>| String::from_utf8_lossy(&mem::take(field)).into_owned();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if in_quotes => (in_quotes, closed_at) = (false, Some(at)),
            b'"' => {
                // In a field in quotes, two quotes stand for one.
                if closed_at.is_some_and(|closed_at| closed_at + 1 == at) {
                    field.push(b'"');
                }
                in_quotes = true;
            }
            b',' if !in_quotes => line.push(text(&mut field)),
            b'\n' if !in_quotes => {
                line.push(text(&mut field));
                lines.push(mem::take(&mut line));
                read = at + 1;
            }
            b'\r' if !in_quotes => {}
            other => field.push(*other),
        }
    }
    if is_last {
        if !line.is_empty() || !field.is_empty() {
            line.push(text(&mut field));
            lines.push(line);
        }
        read = bytes.len();
    }
    (lines, read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Option<TaskResult>> {
        lines(text.as_bytes(), true).0.iter().map(|fields| result(fields)).collect()
    }

    #[test]
    fn a_result_has_the_decoded_key_and_s3s_reason() {
        let text = "b,a%20b/%C3%BC.zip,,succeeded,,200,Successful\r\n\
                    b, one%2Ctwo+3.zip ,v1,failed,AccessDenied,403,\"no, \"\"not\"\" you\nreally\"\n\
                    b,gone,,failed,NoSuchKey,404,The specified key does not exist.";
        let results = read(text);
        let [Some(first), Some(second), Some(third)] = results.as_slice() else { panic!("{results:?}") };
        assert_eq!((first.key.as_str(), &first.version, &first.failure), ("a b/ü.zip", &None, &None));
        assert_eq!((second.key.as_str(), second.version.as_deref()), (" one,two 3.zip ", Some("v1")));
        let failure = second.failure.clone().unwrap();
        assert_eq!((failure.answer.as_str(), failure.is_gone), ("AccessDenied (403): no, \"not\" you\nreally", false));
        assert!(third.failure.as_ref().unwrap().is_gone);
    }

    #[test]
    fn the_http_status_is_the_number_before_or_after_the_error_code() {
        for line in ["b,k,,failed,403,AccessDenied,no", "b,k,,failed,AccessDenied,403,no"] {
            let [Some(TaskResult { failure: Some(failure), .. })] = &read(line)[..] else { panic!("{line}") };
            assert_eq!((failure.answer.as_str(), failure.is_gone), ("AccessDenied (403): no", false), "{line}");
        }
        for line in ["b,k,,failed,404,NoSuchKey,no", "b,k,,failed,NoSuchKey,404,no", "b,k,,failed,404,,"] {
            let [Some(TaskResult { failure: Some(failure), .. })] = &read(line)[..] else { panic!("{line}") };
            assert!(failure.is_gone, "{line}");
        }
    }

    #[test]
    fn a_malformed_line_is_not_a_result() {
        let malformed = ["b,k,,succeeded", "b,k,,done,,200,ok", "b,,,succeeded,,200,ok", "b,%FF,,succeeded,,200,ok"];
        for line in malformed {
            assert_eq!(read(line), [None], "{line}");
        }
    }

    #[test]
    fn the_beginning_of_a_file_has_its_complete_lines() {
        let text = b"b,k1,,succeeded,,200,\"x\ny\"\nb,k2,,succ";
        let (found, read) = lines(text, false);
        assert_eq!((found.len(), &text[read..]), (1, b"b,k2,,succ".as_slice()));
        assert_eq!(found[0][6], "x\ny");
        assert_eq!(lines(b"b,\"k\n", false), (Vec::new(), 0));
        assert_eq!(lines(b"", true), (Vec::new(), 0));
        assert_eq!(lines(b"\"\"\"a\"\"\",\"\",b\n", false).0, [["\"a\"", "", "b"]]);
    }

    #[test]
    fn failed_tasks_come_first() {
        let listing = r#"{"Format":"x","Results":[{"TaskExecutionStatus":"succeeded","Bucket":"b","Key":"a"},
                         {"TaskExecutionStatus":"failed","Bucket":"b","Key":"z"}]}"#;
        let files = serde_json::from_str::<Listing>(listing).unwrap().files();
        assert_eq!(files.iter().map(|file| file.key.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!(serde_json::from_str::<Listing>("{}").unwrap().files(), []);
    }
}

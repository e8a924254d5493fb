//! Links into the console of AWS. Each link opens in the account into which the viewer is signed in.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sekisho_domain::change::{Change, SourceKind};

/// What a part of a path or query may contain as it is. Everything else is encoded, because some names are text of
/// other accounts.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The console of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Console<'p> {
    /// The partition: `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: &'p str,
}

impl Console<'_> {
    /// The page of a change's commit or image.
    #[must_use]
    pub fn change(&self, change: &Change) -> String {
        let (region, revision) = (change.repository.region(), change.revision.as_str());
        let name = change.repository.name();
        match change.repository.kind() {
            SourceKind::Git => {
                let path = format!("codesuite/codecommit/repositories/{}/commit/{revision}", part(name));
                self.page(region, &path)
            }
            SourceKind::Image => {
                let name: Vec<String> = name.split('/').map(part).collect();
                let (account, name) = (change.repository.account(), name.join("/"));
                self.page(region, &format!("ecr/repositories/private/{account}/{name}/_/image/{revision}/details"))
            }
        }
    }

    /// The page of a pipeline's execution or, without an execution, of the pipeline.
    #[must_use]
    pub fn execution(&self, region: &str, pipeline: &str, execution: Option<&str>) -> String {
        let view = execution.map_or_else(|| "view".to_owned(), |id| format!("executions/{}/timeline", part(id)));
        self.page(region, &format!("codesuite/codepipeline/pipelines/{}/{view}", part(pipeline)))
    }

    /// The list of the alarms whose names contain this text.
    #[must_use]
    pub fn alarms(&self, region: &str, text: &str) -> String {
        format!("{}#alarmsV2:?search={}", self.page(region, "cloudwatch/home"), part(text))
    }

    /// The page of an object of a bucket.
    #[must_use]
    pub fn object(&self, region: &str, bucket: &str, key: &str) -> String {
        format!("{}&prefix={}", self.page(region, &format!("s3/object/{}", part(bucket))), part(key))
    }

    fn page(&self, region: &str, path: &str) -> String {
        let host = match self.partition {
            "aws-cn" => "console.amazonaws.cn",
            "aws-us-gov" => "console.amazonaws-us-gov.com",
            _ => "console.aws.amazon.com",
        };
        format!("https://{}.{host}/{path}?region={0}", part(region))
    }
}

fn part(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

#[cfg(test)]
mod tests {
    use sekisho_domain::change::RefKind;

    use super::*;

    const CONSOLE: Console<'static> = Console { partition: "aws" };

    fn change(kind: RefKind, repository: &str, source_ref: &str, revision: &str) -> Change {
        Change {
            kind,
            repository: repository.parse().unwrap(),
            source_ref: source_ref.parse().unwrap(),
            revision: revision.parse().unwrap(),
            previous: None,
            sequence: 1,
            actor: None,
            event: None,
        }
    }

    #[test]
    fn a_change_leads_to_its_commit_or_image() {
        let (commit, digest) = ("01".repeat(20), format!("sha256:{}", "ab".repeat(32)));
        let git = "arn:aws:codecommit:ap-northeast-1:111111111111:shop";
        assert_eq!(
            CONSOLE.change(&change(RefKind::Branch, git, "refs/heads/main", &commit)),
            format!(
                "https://ap-northeast-1.console.aws.amazon.com/codesuite/codecommit/repositories/shop/commit/{commit}\
                 ?region=ap-northeast-1"
            )
        );
        let image = "arn:aws:ecr:ap-northeast-1:111111111111:repository/team/shop";
        let page = CONSOLE.change(&change(RefKind::Image, image, "refs/images/v1", &digest));
        assert!(page.contains(&format!("/private/111111111111/team/shop/_/image/{digest}/details?region=")), "{page}");
    }

    #[test]
    fn text_of_other_accounts_stays_within_its_part_of_an_address() {
        let hostile = "x/../..?a=b#\"onclick=\u{202e}";
        let part = "x%2F..%2F..%3Fa%3Db%23%22onclick%3D%E2%80%AE";
        let page = CONSOLE.execution("us-east-1", "shop", Some(hostile));
        assert!(page.ends_with(&format!("/pipelines/shop/executions/{part}/timeline?region=us-east-1")), "{page}");
        assert!(CONSOLE.alarms("us-east-1", hostile).ends_with(&format!("#alarmsV2:?search={part}")));
        assert!(CONSOLE.object("us-east-1", "b", hostile).ends_with(&format!("/b?region=us-east-1&prefix={part}")));
        let china = Console { partition: "aws-cn" }.execution("cn-north-1", "shop", None);
        assert!(
            china.starts_with("https://cn-north-1.console.amazonaws.cn/codesuite/codepipeline/pipelines/shop/view")
        );
    }
}

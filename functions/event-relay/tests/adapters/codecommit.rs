use aws_sdk_codecommit::Client;
use event_relay::aws::codecommit::{branches, created, differences, head, repositories};
use event_relay::world::Head;
use sekisho_domain::change::{Revision, SourceRef};
use serde_json::json;

use sekisho_testing::wire::{Answer, Wire, ok, refused};

const COMMIT: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";

fn commit() -> Revision {
    COMMIT.parse().unwrap()
}

fn main() -> SourceRef {
    "refs/heads/main".parse().unwrap()
}

fn tag() -> SourceRef {
    "refs/tags/v1".parse().unwrap()
}

#[tokio::test]
async fn a_head_is_read() {
    let wire = Wire::answering([ok(&json!({"branch": {"branchName": "main", "commitId": COMMIT}}))]);
    assert_eq!(head(&Client::new(&wire.config()), "shop", &main()).await.unwrap(), Head::At(commit()));
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "GetBranch");
    assert_eq!(requests[0].host, "codecommit.ap-northeast-1.amazonaws.com");
    assert_eq!(requests[0].json(), json!({"repositoryName": "shop", "branchName": "main"}));
}

#[tokio::test]
async fn a_missing_branch_or_repository_is_an_answer() {
    for (code, expected) in [
        ("BranchDoesNotExistException", Head::NoRef),
        ("InvalidBranchNameException", Head::NoRef),
        ("RepositoryDoesNotExistException", Head::NoRepository),
    ] {
        let wire = Wire::answering([refused(code)]);
        assert_eq!(head(&Client::new(&wire.config()), "shop", &main()).await.unwrap(), expected, "{code}");
    }
}

/// `GetFolder` returns the commit that a tag leads to, whether the tag is annotated or not.
#[tokio::test]
async fn a_tag_is_read_with_its_full_reference() {
    let folder = json!({"commitId": COMMIT, "folderPath": "", "treeId": "1", "files": []});
    let wire = Wire::answering([ok(&folder)]);
    assert_eq!(head(&Client::new(&wire.config()), "shop", &tag()).await.unwrap(), Head::At(commit()));
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "GetFolder");
    let expected = json!({"repositoryName": "shop", "commitSpecifier": "refs/tags/v1", "folderPath": "/"});
    assert_eq!(requests[0].json(), expected);
}

#[tokio::test]
async fn a_missing_tag_is_an_answer_and_a_failed_call_is_an_error() {
    for (code, expected) in [
        ("CommitDoesNotExistException", Head::NoRef),
        ("InvalidCommitException", Head::NoRef),
        ("RepositoryDoesNotExistException", Head::NoRepository),
    ] {
        let wire = Wire::answering([refused(code)]);
        assert_eq!(head(&Client::new(&wire.config()), "shop", &tag()).await.unwrap(), expected, "{code}");
    }
    for (answer, throttled) in [(refused("ThrottlingException"), true), (Answer::TimedOut, false)] {
        let wire = Wire::answering([answer]);
        let error = head(&Client::new(&wire.config()), "shop", &tag()).await.unwrap_err();
        assert_eq!((error.is_throttled(), error.is_refused()), (throttled, false));
        assert_eq!(error.operation, "CodeCommit's GetFolder for refs/tags/v1 of shop");
    }
}

#[tokio::test]
async fn a_failed_call_or_an_answer_without_a_commit_id_is_an_error() {
    let cases = [
        (refused("ThrottlingException"), true),
        (refused("TooManyRequestsException"), true),
        (refused("EncryptionKeyAccessDeniedException"), false),
        (Answer::Http(503, String::new()), false),
        (Answer::TimedOut, false),
        (ok(&json!({"branch": {"branchName": "main"}})), false),
        (ok(&json!({"branch": {"branchName": "main", "commitId": "HEAD"}})), false),
    ];
    for (answer, throttled) in cases {
        let wire = Wire::answering([answer.clone()]);
        let error = head(&Client::new(&wire.config()), "shop", &main()).await.unwrap_err();
        assert_eq!(error.is_throttled(), throttled, "{answer:?}");
        assert_eq!(error.operation, "CodeCommit's GetBranch for main of shop");
        assert!(std::error::Error::source(&error).is_some(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_page_of_differences_has_old_and_new_paths_and_the_token_of_the_next_page() {
    let page = json!({
        "differences": [
            {
                "changeType": "M",
                "beforeBlob": {"path": "api/a.rs", "blobId": "1"},
                "afterBlob": {"path": "api/b.rs", "blobId": "1"},
            },
            {"changeType": "A", "afterBlob": {"path": "README.md", "blobId": "2"}},
            {"changeType": "D", "beforeBlob": {"path": "web/x", "blobId": "3"}},
        ],
        "NextToken": "more",
    });
    let wire = Wire::answering([ok(&page), ok(&json!({"differences": []}))]);
    let client = Client::new(&wire.config());
    let first = differences(&client, "shop", &commit(), &commit(), None).await.unwrap().unwrap();
    assert_eq!(
        first.paths.iter().map(String::as_str).collect::<Vec<_>>(),
        ["README.md", "api/a.rs", "api/b.rs", "web/x"]
    );
    let last = differences(&client, "shop", &commit(), &commit(), first.next).await.unwrap().unwrap();
    assert_eq!((last.paths.len(), last.next), (0, None));
    let requests = wire.requests();
    let asked = json!({"repositoryName": "shop", "beforeCommitSpecifier": COMMIT, "afterCommitSpecifier": COMMIT});
    assert_eq!(requests[0].json(), asked);
    assert_eq!(requests[1].json()["NextToken"], "more");
}

#[tokio::test]
async fn a_missing_commit_is_an_answer_and_throttling_is_an_error() {
    let wire = Wire::answering([refused("CommitDoesNotExistException"), refused("ThrottlingException")]);
    let client = Client::new(&wire.config());
    assert_eq!(differences(&client, "shop", &commit(), &commit(), None).await.unwrap(), None);
    assert!(differences(&client, "shop", &commit(), &commit(), None).await.unwrap_err().is_throttled());
}

/// If commits that cannot be compared were an error, every retry would fail in the same way, and the branch would be
/// blocked permanently. If a passing failure were an answer, it would start pipelines whose paths the change does not
/// touch.
#[tokio::test]
async fn only_an_answer_about_the_commits_means_that_the_paths_cannot_be_known() {
    for code in ["CommitDoesNotExistException", "InvalidCommitException", "InvalidCommitIdException"] {
        let wire = Wire::answering([refused(code)]);
        let paths = differences(&Client::new(&wire.config()), "shop", &commit(), &commit(), None).await;
        assert_eq!(paths.unwrap(), None, "{code}");
    }
    let failures = [
        (refused("AccessDeniedException"), true),
        (refused("EncryptionKeyDisabledException"), true),
        (refused("InvalidContinuationTokenException"), false),
        (refused("RepositoryDoesNotExistException"), false),
        (Answer::TimedOut, false),
        (Answer::Http(500, String::new()), false),
    ];
    for (answer, is_final) in failures {
        let wire = Wire::answering([answer.clone()]);
        let client = Client::new(&wire.config());
        let error = differences(&client, "shop", &commit(), &commit(), None).await.unwrap_err();
        assert_eq!(error.is_refused(), is_final, "{answer:?}");
    }
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let wire = Wire::answering([
        ok(&json!({"branches": ["main", "a"], "nextToken": "more"})),
        ok(&json!({"branches": ["b"]})),
        ok(&json!({"repositories": [{"repositoryName": "shop", "repositoryId": "1"}], "nextToken": "more"})),
        ok(&json!({"repositories": [{"repositoryName": "web", "repositoryId": "2"}]})),
    ]);
    let client = Client::new(&wire.config());
    assert_eq!(branches(&client, "shop").await.unwrap().unwrap(), ["main", "a", "b"]);
    assert_eq!(repositories(&client).await.unwrap(), ["shop", "web"]);
    let requests = wire.requests();
    assert_eq!(requests[1].json(), json!({"repositoryName": "shop", "nextToken": "more"}));
    assert_eq!(requests[3].operation, "ListRepositories");
}

#[tokio::test]
async fn a_list_whose_second_page_fails_is_an_error() {
    let wire = Wire::answering([
        refused("RepositoryDoesNotExistException"),
        ok(&json!({"branches": ["main"], "nextToken": "more"})),
        refused("ThrottlingException"),
        refused("ThrottlingException"),
    ]);
    let client = Client::new(&wire.config());
    assert_eq!(branches(&client, "shop").await.unwrap(), None);
    assert!(branches(&client, "shop").await.unwrap_err().is_throttled());
    assert!(repositories(&client).await.unwrap_err().is_throttled());
}

#[tokio::test]
async fn the_creation_of_a_repository_is_read() {
    let metadata = |metadata| ok(&json!({"repositoryMetadata": metadata}));
    let wire = Wire::answering([metadata(json!({"creationDate": 1_795_262_400.25}))]);
    let found = created(&Client::new(&wire.config()), "shop").await.unwrap();
    assert_eq!(found, Some(1_795_262_400_250));
    let requests = wire.requests();
    assert_eq!(
        (requests[0].operation.as_str(), requests[0].json()),
        ("GetRepository", json!({"repositoryName": "shop"}))
    );
    let wire = Wire::answering([refused("RepositoryDoesNotExistException")]);
    assert_eq!(created(&Client::new(&wire.config()), "shop").await.unwrap(), None);
    for answer in [metadata(json!({})), refused("AccessDeniedException"), refused("ThrottlingException")] {
        let wire = Wire::answering([answer]);
        created(&Client::new(&wire.config()), "shop").await.unwrap_err();
    }
}

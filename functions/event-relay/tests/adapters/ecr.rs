use std::collections::BTreeSet;

use aws_sdk_ecr::Client;
use event_relay::aws::ecr::{cache_prefixes, image, images, repositories};
use event_relay::image::{Image, ImageRepository};
use event_relay::world::{FoundImage, ImageId};
use sekisho_domain::change::Revision;
use sekisho_testing::wire::{Answer, Wire, ok, refused};
use serde_json::{Value, json};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest(n: u64) -> Revision {
    format!("sha256:{n:064x}").parse().unwrap()
}

/// The n-th image as ECR describes it.
fn detail(n: u64) -> Value {
    json!({
        "registryId": "111111111111", "repositoryName": "shop", "imageDigest": digest(n),
        "imageTags": [format!("v{n}")], "imageSizeInBytes": 1024, "imagePushedAt": 1_795_262_400.5, "imageManifestMediaType": OCI,
        "artifactMediaType": "application/vnd.oci.image.config.v1+json", "imageStatus": "ACTIVE",
    })
}

fn expected(n: u64) -> Image {
    Image {
        digest: digest(n),
        tags: vec![format!("v{n}")],
        pushed: 1_795_262_400_500,
        manifest: Some(OCI.to_owned()),
        artifact: Some("application/vnd.oci.image.config.v1+json".to_owned()),
        has_subject: false,
        is_archived: false,
    }
}

#[tokio::test]
async fn an_image_is_read_by_its_tag_or_digest() {
    let digest = digest(1);
    for (id, named) in [
        (ImageId::Tag("v1"), json!({"imageTag": "v1"})),
        (ImageId::Digest(&digest), json!({"imageDigest": digest.as_str()})),
    ] {
        let wire = Wire::answering([ok(&json!({"imageDetails": [detail(1)]}))]);
        let found = image(&Client::new(&wire.config()), "shop", &id).await.unwrap();
        assert_eq!(found, FoundImage::At(expected(1)));
        let requests = wire.requests();
        assert_eq!(requests[0].operation, "DescribeImages");
        assert_eq!(requests[0].host, "api.ecr.ap-northeast-1.amazonaws.com");
        assert_eq!(requests[0].json(), json!({"repositoryName": "shop", "imageIds": [named]}));
    }
}

#[tokio::test]
async fn a_signature_and_an_archived_image_are_told_from_an_image() {
    let mut described = detail(1);
    described["subjectManifestDigest"] = digest(2).to_string().into();
    described["imageStatus"] = "ARCHIVED".into();
    let wire = Wire::answering([ok(&json!({"imageDetails": [described]}))]);
    let found = image(&Client::new(&wire.config()), "shop", &ImageId::Tag("v1")).await.unwrap();
    assert_eq!(found, FoundImage::At(Image { has_subject: true, is_archived: true, ..expected(1) }));
}

#[tokio::test]
async fn a_missing_image_or_repository_is_an_answer() {
    for (answer, expected) in [
        (refused("ImageNotFoundException"), FoundImage::NoImage),
        (refused("RepositoryNotFoundException"), FoundImage::NoRepository),
        (ok(&json!({"imageDetails": []})), FoundImage::NoImage),
    ] {
        let wire = Wire::answering([answer]);
        assert_eq!(image(&Client::new(&wire.config()), "shop", &ImageId::Tag("v1")).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_failed_call_or_an_answer_without_a_digest_is_an_error() {
    let mut described = detail(1);
    described.as_object_mut().unwrap().remove("imageDigest");
    for (answer, throttled, is_refused) in [
        (refused("ThrottlingException"), true, false),
        (refused("AccessDeniedException"), false, true),
        (refused("ServerException"), false, false),
        (Answer::TimedOut, false, false),
        (ok(&json!({"imageDetails": [described]})), false, false),
    ] {
        let wire = Wire::answering([answer.clone()]);
        let error = image(&Client::new(&wire.config()), "shop", &ImageId::Tag("v1")).await.unwrap_err();
        assert_eq!((error.is_throttled(), error.is_refused()), (throttled, is_refused), "{answer:?}");
        assert_eq!(error.operation, "ECR's DescribeImages for v1 of shop");
    }
}

#[tokio::test]
async fn the_tagged_images_of_all_pages_are_listed() {
    let pages = [
        ok(&json!({"imageDetails": [detail(1), detail(2)], "nextToken": "more"})),
        ok(&json!({"imageDetails": [detail(3)]})),
    ];
    let wire = Wire::answering(pages);
    let found = images(&Client::new(&wire.config()), "shop").await.unwrap();
    assert_eq!(found, Some(vec![expected(1), expected(2), expected(3)]));
    let first = json!({"repositoryName": "shop", "filter": {"tagStatus": "TAGGED"}, "maxResults": 1000});
    let requests = wire.requests();
    assert_eq!(requests[0].json(), first);
    assert_eq!(requests[1].json()["nextToken"], "more");
    let wire = Wire::answering([refused("RepositoryNotFoundException")]);
    assert_eq!(images(&Client::new(&wire.config()), "shop").await.unwrap(), None);
    let wire = Wire::answering([refused("ThrottlingException")]);
    assert!(images(&Client::new(&wire.config()), "shop").await.unwrap_err().is_throttled());
}

#[tokio::test]
async fn repositories_and_the_prefixes_of_caches_are_listed() {
    let shop = json!({"repositoryName": "shop", "createdAt": 1_795_312_345.5});
    let wire = Wire::answering([
        ok(&json!({"repositories": [shop], "nextToken": "more"})),
        ok(&json!({"repositories": [{"repositoryName": "team/website"}]})),
    ]);
    let expected = [("shop", 1_795_312_345_500), ("team/website", u64::MAX)]
        .map(|(name, created)| ImageRepository { name: name.to_owned(), created });
    assert_eq!(repositories(&Client::new(&wire.config())).await.unwrap(), expected);
    assert_eq!(wire.requests()[0].operation, "DescribeRepositories");
    assert_eq!(wire.requests()[0].json()["maxResults"], 1_000);
    let rules = json!({"pullThroughCacheRules": [{"ecrRepositoryPrefix": "hub"}, {"ecrRepositoryPrefix": "quay"}]});
    let wire = Wire::answering([ok(&rules)]);
    let expected = BTreeSet::from(["hub".to_owned(), "quay".to_owned()]);
    assert_eq!(cache_prefixes(&Client::new(&wire.config())).await.unwrap(), expected);
    assert_eq!(wire.requests()[0].operation, "DescribePullThroughCacheRules");
    assert_eq!(wire.requests()[0].json()["maxResults"], 1_000);
    let wire = Wire::answering([refused("AccessDeniedException")]);
    assert!(cache_prefixes(&Client::new(&wire.config())).await.unwrap_err().is_refused());
}

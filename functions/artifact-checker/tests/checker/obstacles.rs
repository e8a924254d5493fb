//! Tests of sweeps that meet a bucket or an object that cannot be finished, and of what they do with everything else.

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;

use crate::sweeps::{SWEEP, SWEEP_VERSIONS, count, filled};
use crate::world::s3::Sse;
use crate::world::{Response, handle, under};

#[tokio::test(start_paused = true)]
async fn an_empty_page_that_is_not_the_last_does_not_end_a_sweep() {
    for payload in [SWEEP, SWEEP_VERSIONS] {
        let world = filled(10, &[(30, under("right")), (5, Sse::S3)]);
        let mut pages = 0;
        world.script(move |request| {
            pages += usize::from(request.operation.starts_with("ListObject"));
            let body = match request.operation.as_str() {
                "ListObjectsV2" if pages == 2 => {
                    let start = request.query.get("start-after").cloned().unwrap_or_default();
                    let start = crate::world::s3::encoded(&start);
                    format!(
                        "<ListBucketResult><IsTruncated>true</IsTruncated><StartAfter>{start}</StartAfter>\
                         <NextContinuationToken>next</NextContinuationToken></ListBucketResult>"
                    )
                }
                "ListObjectVersions" if pages == 2 => {
                    let marker = crate::world::s3::encoded(&request.query["key-marker"]);
                    let version = &request.query["version-id-marker"];
                    format!(
                        "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>\
                         <NextVersionIdMarker>{version}</NextVersionIdMarker></ListVersionsResult>"
                    )
                }
                _ => return None,
            };
            Some(Response::new(200).body(body))
        });
        let answer = handle(&world.checker(Repair::Update), "r", payload).await.unwrap();
        assert!(answer.sweeps[0].complete);
        assert_eq!((answer.sweeps[0].objects, count(&answer, Outcome::Repaired)), (35, 5));
    }
}

use sekisho_domain::notice::Notice;
use sekisho_lambda::Topic;
use sekisho_lambda::aws::later;
use sekisho_testing::wire::{Answer, Wire};

const TOPIC: &str = "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices";

#[tokio::test]
async fn a_notice_on_the_wire() {
    let answer = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
    let wire = Wire::answering([Answer::Http(200, answer.to_owned()), Answer::Http(500, String::new())]);
    let topic = Topic::new(later(&wire.config(), aws_sdk_sns::Client::new), TOPIC);
    let notice =
        Notice { title: "Pipeline shop failed".to_owned(), lines: vec!["Why: x & y".to_owned()], ..Notice::default() };
    topic.publish(&notice).await.unwrap();
    assert!(!topic.publish(&notice).await.unwrap_err().is_throttled());
    let body = &wire.requests()[0].body;
    assert!(body.starts_with(
        "Action=Publish&Version=2010-03-31\
         &TopicArn=arn%3Aaws%3Asns%3Aap-northeast-1%3A222222222222%3Asekisho-notices&Message="
    ));
    assert!(body.ends_with("&Subject=Pipeline%20shop%20failed&MessageStructure=json"), "{body}");
    assert!(body.contains("Why%3A%20x%20%26%20y"), "the mail has the line without escapes: {body}");
}

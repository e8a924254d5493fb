//! A notice to people, and its formats for the two kinds of subscribers of the topic: mail and Slack.

use std::collections::BTreeMap;

use serde_json::json;

use crate::slack;

/// The longest description for Slack, in characters. Chatbot's custom notifications allow 8,000. Lines that do not fit
/// are only in the mail.
const LONGEST_DESCRIPTION: usize = 7_500;
/// Slack's mention of everybody in a channel.
const CHANNEL_MENTION: &str = "<!channel>";

/// A message that is sent to people without their request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// The title, which is one short line.
    pub title: String,
    /// The lines of the text. They may contain text from outside: [`Notice::message`] makes this text safe to show.
    pub lines: Vec<String>,
    /// A link for more information: its label and its address.
    pub link: Option<(String, String)>,
    /// The variables for Chatbot's custom actions, which are the buttons below the message.
    pub context: BTreeMap<&'static str, String>,
    /// Whether everybody in the channel is mentioned, so that Slack notifies them.
    pub mentions_channel: bool,
}

impl Notice {
    /// The subject of the mail. SNS accepts up to 99 ASCII characters.
    #[must_use]
    pub fn subject(&self) -> String {
        self.title.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(99).collect()
    }

    /// The message for `MessageStructure` `json`. Chatbot shows only messages in the format of its custom notifications
    /// and drops plain text, so Slack and mail get different texts.
    #[must_use]
    pub fn message(&self) -> String {
        let mut room = LONGEST_DESCRIPTION;
        let fits = |line: &String| {
            room = room.saturating_sub(line.chars().count() + 1);
            room > 0
        };
        let mut shown: Vec<String> = self.lines.iter().map(|line| slack::shown(line)).take_while(fits).collect();
        if shown.len() < self.lines.len() {
            shown.push(format!("… and {} more lines: see the mail or the ledger.", self.lines.len() - shown.len()));
        }
        if self.mentions_channel {
            shown.insert(0, CHANNEL_MENTION.to_owned());
        }
        let mut mail: Vec<String> = self.lines.iter().map(|line| slack::on_one_line(line)).collect();
        if let Some((label, address)) = &self.link {
            shown.push(format!("<{address}|{label}>"));
            mail.push(format!("{label}: {address}"));
        }
        let custom = json!({
            "version": "1.0",
            "source": "custom",
            "content": {"textType": "client-markdown", "title": self.title, "description": shown.join("\n")},
            "metadata": {"enableCustomActions": !self.context.is_empty(), "additionalContext": self.context},
        });
        json!({"default": custom.to_string(), "email": mail.join("\n")}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(notice: &Notice) -> (serde_json::Value, String) {
        let message: serde_json::Value = serde_json::from_str(&notice.message()).unwrap();
        let custom = serde_json::from_str(message["default"].as_str().unwrap()).unwrap();
        (custom, message["email"].as_str().unwrap().to_owned())
    }

    #[test]
    fn slack_gets_a_custom_notification_and_mail_gets_text() {
        let notice = Notice {
            title: "Let in: é".into(),
            lines: vec!["Reason: <!channel> & more".into()],
            link: Some(("Where".into(), "https://example.com/?a=b".into())),
            context: BTreeMap::from([("name", "é".to_owned())]),
            ..Notice::default()
        };
        let (custom, mail) = read(&notice);
        assert_eq!(custom["source"], "custom");
        assert_eq!(custom["metadata"]["additionalContext"]["name"], "é");
        assert_eq!(
            custom["content"]["description"],
            "Reason: &lt;!channel&gt; &amp; more\n<https://example.com/?a=b|Where>"
        );
        assert_eq!(mail, "Reason: <!channel> & more\nWhere: https://example.com/?a=b");
        assert_eq!(notice.subject(), "Let in: ?");
    }

    #[test]
    fn only_a_notice_that_says_so_mentions_the_channel() {
        let lines = vec!["Reason: <!channel>".to_owned()];
        let notice = Notice { title: "t".into(), lines, mentions_channel: true, ..Notice::default() };
        let (custom, mail) = read(&notice);
        assert_eq!(custom["content"]["description"], "<!channel>\nReason: &lt;!channel&gt;");
        assert_eq!(mail, "Reason: <!channel>");
    }

    #[test]
    fn a_line_break_in_a_line_is_removed_from_the_mail() {
        let lines = vec!["Reason: release\nEnd time is never".into()];
        let (_, mail) = read(&Notice { title: "t".into(), lines, ..Notice::default() });
        assert_eq!(mail, "Reason: release End time is never");
    }

    #[test]
    fn lines_that_do_not_fit_in_slack_are_counted() {
        let notice = Notice { title: "t".into(), lines: vec!["x".repeat(99); 200], ..Notice::default() };
        let (custom, mail) = read(&notice);
        let description = custom["content"]["description"].as_str().unwrap();
        assert!(
            description.len() <= LONGEST_DESCRIPTION + 60
                && description.ends_with("more lines: see the mail or the ledger.")
        );
        assert_eq!(mail.lines().count(), 200);
    }
}

//! A message for people, in the shapes that the topic's subscribers show.

use std::collections::BTreeMap;

use serde_json::json;

use crate::slack;

/// Chatbot's custom notifications have room for 8,000 characters of description; what is left out is in the mail.
const DESCRIPTION: usize = 7_500;

/// What people are told without having asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// One short line.
    pub title: String,
    /// What there is to say; text from elsewhere stands in it as it came.
    pub lines: Vec<String>,
    /// Where to look: label and address.
    pub link: Option<(String, String)>,
    /// What the buttons below it know: Chatbot's custom actions read their variables from here.
    pub context: BTreeMap<&'static str, String>,
}

impl Notice {
    /// The mail's subject: SNS takes up to 99 characters of ASCII.
    #[must_use]
    pub fn subject(&self) -> String {
        self.title.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(99).collect()
    }

    /// The message, for `MessageStructure` `json`. Chatbot shows in Slack only what has the form of its custom
    /// notifications, and drops plain text; mail is for reading.
    #[must_use]
    pub fn message(&self) -> String {
        let mut room = DESCRIPTION;
        let fits = |line: &String| {
            room = room.saturating_sub(line.chars().count() + 1);
            room > 0
        };
        let mut shown: Vec<String> = self.lines.iter().map(|line| slack::shown(line)).take_while(fits).collect();
        if shown.len() < self.lines.len() {
            shown.push(format!("… and {} lines more: mail and ledger have them.", self.lines.len() - shown.len()));
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
    fn a_reason_of_several_lines_is_one_line_of_a_mail() {
        let lines = vec!["Reason: release\nEnd time is never".into()];
        let (_, mail) = read(&Notice { title: "t".into(), lines, ..Notice::default() });
        assert_eq!(mail, "Reason: release End time is never");
    }

    #[test]
    fn what_slack_has_no_room_for_is_counted() {
        let notice = Notice { title: "t".into(), lines: vec!["x".repeat(99); 200], ..Notice::default() };
        let (custom, mail) = read(&notice);
        let description = custom["content"]["description"].as_str().unwrap();
        assert!(
            description.len() <= DESCRIPTION + 60 && description.ends_with("lines more: mail and ledger have them.")
        );
        assert_eq!(mail.lines().count(), 200);
    }
}

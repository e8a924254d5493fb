//! The requests of people about trains: `train`, `hold`, `resume`, `accept`, `promote`, `pardon` and `rollback`.
//!
//! A request names a route, and a wave or a revision where its action needs one. In its short form, the value of the
//! action is a route, a route and a wave, or the code of a notice: `{"train":"shop"}`, `{"resume":"shop/tokyo"}`,
//! `{"pardon":"<code>","reason":"…"}`.

use std::fmt;
use std::time::Duration;

use sekisho_domain::change::Revision;
use sekisho_domain::slack;
use sekisho_lambda::event;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;
/// The longest hold with an end, in minutes: two weeks.
const LONGEST_HOLD: u64 = 20_160;
/// The fewest digits by which a person may name a commit or an image.
const FEWEST_DIGITS: usize = 7;
/// The digits of a complete digest. A commit id has fewer.
const ALL_DIGITS: usize = 64;
/// What precedes the digits of a digest.
const DIGEST: &str = "sha256:";

/// The actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrainAction {
    /// Show where every change is, and what each wave waits for.
    Train,
    /// Let nothing enter a wave, or any wave.
    Hold,
    /// End a hold.
    Resume,
    /// Take the unknown targets of a wave for healthy.
    Accept,
    /// Let a change enter a wave next.
    Promote,
    /// Let a condemned change be tried again.
    Pardon,
    /// Send the targets of a wave back.
    Rollback,
}

impl TrainAction {
    pub(crate) const ALL: [Self; 7] =
        [Self::Train, Self::Hold, Self::Resume, Self::Accept, Self::Promote, Self::Pardon, Self::Rollback];

    /// The action with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::Accept => "accept",
            Self::Promote => "promote",
            Self::Pardon => "pardon",
            Self::Rollback => "rollback",
        }
    }

    /// Whether a request must name a wave.
    pub(crate) fn needs_wave(self) -> bool {
        matches!(self, Self::Accept | Self::Promote | Self::Rollback)
    }

    fn needs_revision(self) -> bool {
        matches!(self, Self::Promote | Self::Pardon)
    }

    fn needs_reason(self) -> bool {
        !matches!(self, Self::Train | Self::Resume)
    }

    /// Whether a request of this action may have the field.
    fn takes(self, field: &str) -> bool {
        match field {
            "wave" => self.needs_wave() || matches!(self, Self::Hold | Self::Resume),
            "revision" => self.needs_revision(),
            "reason" | "dry_run" => self != Self::Train,
            "minutes" => self == Self::Hold,
            _ => true,
        }
    }

    /// A request of this action with these names, for error messages.
    pub(crate) fn example(self, route: &str, wave: &str) -> String {
        let mut fields = vec![format!(r#""action":"{}","route":"{}""#, self.as_str(), slack::quoted(route))];
        if self.needs_wave() {
            fields.push(format!(r#""wave":"{}""#, slack::quoted(wave)));
        }
        if self.needs_revision() {
            fields.push(r#""revision":"0123abc""#.to_owned());
        }
        if self.needs_reason() {
            fields.push(r#""reason":"…""#.to_owned());
        }
        format!("{{{}}}", fields.join(","))
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The names that the person wrote.
    Named {
        /// The route.
        route: String,
        /// The wave.
        wave: Option<String>,
        /// The commit or image. It is present if the action needs one.
        revision: Option<Prefix>,
    },
    /// The value of a request in its short form: a route, `route/wave`, or the code of a notice.
    Short(String),
}

/// The first digits of a commit id or a digest, at least seven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl Prefix {
    fn new(text: &str) -> Result<Self, String> {
        let digits = text.to_ascii_lowercase();
        let digits = digits.strip_prefix(DIGEST).unwrap_or(&digits);
        let is_valid = (FEWEST_DIGITS..=ALL_DIGITS).contains(&digits.len())
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if is_valid {
            return Ok(Self(digits.to_owned()));
        }
        let text = slack::quoted(text);
        Err(format!(
            "`revision` is `{text}`: write the commit's id or the image's digest, or the first {FEWEST_DIGITS} digits \
             or more"
        ))
    }

    /// Whether the commit's id or the digest begins with these digits.
    pub(crate) fn matches(&self, revision: &Revision) -> bool {
        revision.digits().starts_with(&self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person's request about a train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrainRequest {
    /// What to do.
    pub(crate) action: TrainAction,
    /// What the request is about.
    pub(crate) subject: Subject,
    /// The branch or tag that narrows the request, as it was typed.
    pub(crate) source_ref: Option<String>,
    /// The reason. It is present if the action needs one.
    pub(crate) reason: Option<String>,
    /// How long a hold lasts. `None` means until `resume`.
    pub(crate) length: Option<Duration>,
    /// Whether the request only shows what it would do.
    pub(crate) is_dry_run: bool,
}

/// The payload's fields. A misspelled field is an error, because a hold without its wave would hold the whole train.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    action: Option<String>,
    train: Option<String>,
    hold: Option<String>,
    resume: Option<String>,
    accept: Option<String>,
    pardon: Option<String>,
    rollback: Option<String>,
    route: Option<String>,
    wave: Option<String>,
    revision: Option<String>,
    #[serde(rename = "ref")]
    source_ref: Option<String>,
    reason: Option<String>,
    minutes: Option<u64>,
    #[serde(default)]
    dry_run: bool,
}

/// Whether a payload without `action` is a request in its short form. An event has a `source`.
pub(crate) fn is_short_form(payload: &str) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        train: Option<IgnoredAny>,
        hold: Option<IgnoredAny>,
        resume: Option<IgnoredAny>,
        accept: Option<IgnoredAny>,
        pardon: Option<IgnoredAny>,
        rollback: Option<IgnoredAny>,
        source: Option<IgnoredAny>,
    }
    let Ok(keys) = event::parse::<Keys>("request", payload) else { return false };
    let actions = [keys.train, keys.hold, keys.resume, keys.accept, keys.pardon, keys.rollback];
    keys.source.is_none() && actions.iter().any(Option::is_some)
}

impl TrainRequest {
    /// Whether the request only shows the train, or what it would do.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_dry_run || self.action == TrainAction::Train
    }

    /// Parses a payload.
    ///
    /// # Errors
    /// A sentence that names the wrong or missing field and says what to write.
    pub(crate) fn parse(payload: &str) -> Result<Self, String> {
        let written: Written = event::parse("request", payload).map_err(|reason| {
            let reason = slack::shown(&reason);
            format!("{reason}; send a request such as {}", TrainAction::Hold.example("shop", ""))
        })?;
        let (action, short) = written.action()?;
        for (field, is_given) in [
            ("wave", written.wave.is_some()),
            ("revision", written.revision.is_some()),
            ("reason", written.reason.is_some()),
            ("minutes", written.minutes.is_some()),
            ("dry_run", written.dry_run),
        ] {
            if is_given && !action.takes(field) {
                return Err(format!("`{field}` is not a field of {}: leave it out", action.as_str()));
            }
        }
        let subject = match short {
            Some(short) => written.short_subject(short)?,
            None => written.named_subject(action)?,
        };
        Ok(Self {
            action,
            subject,
            reason: written.reason(action)?,
            length: written.length()?,
            source_ref: written.source_ref,
            is_dry_run: written.dry_run,
        })
    }
}

impl Written {
    /// The action, and its value if the request is in its short form.
    fn action(&self) -> Result<(TrainAction, Option<String>), String> {
        let short = [
            (TrainAction::Train, &self.train),
            (TrainAction::Hold, &self.hold),
            (TrainAction::Resume, &self.resume),
            (TrainAction::Accept, &self.accept),
            (TrainAction::Pardon, &self.pardon),
            (TrainAction::Rollback, &self.rollback),
        ];
        let short = short.into_iter().filter_map(|(action, value)| Some((action, Some(value.clone()?))));
        let named = self.action.as_deref().and_then(TrainAction::named).map(|action| (action, None));
        let all: Vec<_> = named.into_iter().chain(short).collect();
        match all.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err("no action is given: write `action`".to_owned()),
            [(first, _), ..] => {
                Err(format!("several actions are given: write one, as in {}", first.example("shop", "tokyo")))
            }
        }
    }

    fn short_subject(&self, short: String) -> Result<Subject, String> {
        let given =
            [("route", &self.route), ("wave", &self.wave), ("revision", &self.revision), ("ref", &self.source_ref)];
        match given.into_iter().find(|(_, value)| value.is_some()) {
            None => Ok(Subject::Short(short)),
            Some((field, _)) => Err(format!(
                "`{field}` does not belong to the short form of a request: leave it out, or write `action`, `route` \
                 and the other fields"
            )),
        }
    }

    fn named_subject(&self, action: TrainAction) -> Result<Subject, String> {
        let Some(route) = self.route.clone() else {
            return Err(format!("`route` is missing: write {}", action.example("shop", "tokyo")));
        };
        let revision = match &self.revision {
            Some(revision) => Some(Prefix::new(revision)?),
            None if action.needs_revision() => {
                let example = action.example(&route, self.wave.as_deref().unwrap_or("tokyo"));
                return Err(format!(
                    "`revision` is missing: write the commit's id or the image's digest, as in {example}"
                ));
            }
            None => None,
        };
        Ok(Subject::Named { route, wave: self.wave.clone(), revision })
    }

    fn reason(&self, action: TrainAction) -> Result<Option<String>, String> {
        let reason = self.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
        let Some(reason) = reason else {
            if !action.needs_reason() {
                return Ok(None);
            }
            let example = match &self.route {
                Some(route) => action.example(route, self.wave.as_deref().unwrap_or("tokyo")),
                None => format!(r#"{{"{}":"<code>","reason":"…"}}"#, action.as_str()),
            };
            return Err(format!("`reason` is missing: say why, as in {example}"));
        };
        match reason.chars().count() {
            length if length > LONGEST_REASON => {
                Err(format!("`reason` has {length} characters: write at most {LONGEST_REASON}"))
            }
            _ => Ok(Some(reason.to_owned())),
        }
    }

    fn length(&self) -> Result<Option<Duration>, String> {
        match self.minutes {
            None => Ok(None),
            Some(minutes @ 1..=LONGEST_HOLD) => Ok(Some(Duration::from_mins(minutes))),
            Some(minutes) => Err(format!(
                "`minutes` is {minutes}: write a number from 1 to {LONGEST_HOLD}, or leave it out to hold until \
                 `resume`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &str) -> TrainRequest {
        TrainRequest::parse(payload).unwrap_or_else(|reason| panic!("{payload}: {reason}"))
    }

    #[test]
    fn a_request_has_its_fields() {
        let hold = parse(
            r#"{"action":"hold","route":"shop","wave":"tokyo","ref":"main","reason":" a sale ","minutes":120,
                "dry_run":true}"#,
        );
        let subject = Subject::Named { route: "shop".to_owned(), wave: Some("tokyo".to_owned()), revision: None };
        let expected = TrainRequest {
            action: TrainAction::Hold,
            subject,
            source_ref: Some("main".to_owned()),
            reason: Some("a sale".to_owned()),
            length: Some(Duration::from_hours(2)),
            is_dry_run: true,
        };
        assert_eq!(hold, expected);
        let whole = parse(r#"{"action":"hold","route":"shop","reason":"a sale"}"#);
        assert_eq!((whole.length, whole.is_dry_run, whole.source_ref), (None, false, None));
    }

    #[test]
    fn the_short_form_has_the_action_as_a_field() {
        for action in TrainAction::ALL.into_iter().filter(|action| *action != TrainAction::Promote) {
            let reason = if action.takes("reason") { r#","reason":"why""# } else { "" };
            let payload = format!(r#"{{"{}":"abcd2345"{reason}}}"#, action.as_str());
            assert!(is_short_form(&payload));
            let request = parse(&payload);
            assert_eq!((request.action, request.subject), (action, Subject::Short("abcd2345".to_owned())));
        }
        for other in [r#"{"source":"sekisho.starter","hold":"x"}"#, r#"{"promote":"ABCD2345"}"#, "[]", "{"] {
            assert!(!is_short_form(other), "{other}");
        }
    }

    #[test]
    fn a_revision_may_be_shortened_to_seven_digits() {
        let Subject::Named { revision: Some(revision), .. } =
            parse(r#"{"action":"pardon","route":"shop","revision":"0123ABC","reason":"why"}"#).subject
        else {
            panic!("no revision")
        };
        assert!(revision.matches(&"0123abc000000000000000000000000000000000".parse().unwrap()));
        assert!(!revision.matches(&"0123abd000000000000000000000000000000000".parse().unwrap()));
    }

    #[test]
    fn a_wrong_request_says_what_to_type() {
        let long = format!(r#"{{"action":"hold","route":"shop","reason":"{}"}}"#, "x".repeat(501));
        for (payload, words) in [
            (r#"{"action":"hold","reason":"r"}"#, r#"`route` is missing: write {"action":"hold""#),
            (r#"{"action":"hold","route":"shop"}"#, r#"{"action":"hold","route":"shop","reason":"…"}"#),
            (r#"{"action":"hold","route":"shop","reason":"  "}"#, "`reason` is missing"),
            (r#"{"action":"accept","route":"shop","wave":"w"}"#, r#""wave":"w","reason":"…"}"#),
            (r#"{"action":"promote","route":"shop","wave":"w","reason":"r"}"#, "`revision` is missing"),
            (r#"{"action":"pardon","route":"shop","reason":"r"}"#, "`revision` is missing"),
            (r#"{"action":"pardon","route":"shop","revision":"012345","reason":"r"}"#, "7 digits"),
            (r#"{"action":"pardon","route":"shop","revision":"HEAD~1","reason":"r"}"#, "7 digits"),
            (r#"{"action":"hold","route":"shop","reason":"r","minutes":0}"#, "from 1 to 20160"),
            (r#"{"action":"hold","route":"shop","reason":"r","minutes":20161}"#, "from 1 to 20160"),
            (r#"{"action":"hold","route":"shop","reason":"r","minutes":"5"}"#, "request.minutes"),
            (r#"{"action":"resume","route":"shop","minutes":5}"#, "`minutes` is not a field of resume"),
            (r#"{"action":"train","route":"shop","dry_run":true}"#, "`dry_run` is not a field of train"),
            (r#"{"action":"train","route":"shop","wave":"w"}"#, "`wave` is not a field of train"),
            (r#"{"action":"pardon","route":"shop","revision":"0123abc","wave":"w","reason":"r"}"#, "`wave`"),
            (r#"{"action":"hold","route":"shop","waves":"w","reason":"r"}"#, "unknown field `waves`"),
            (r#"{"hold":"ABCD2345"}"#, r#"{"hold":"<code>","reason":"…"}"#),
            (r#"{"hold":"ABCD2345","wave":"w","reason":"r"}"#, "`wave` does not belong to the short form"),
            (r#"{"hold":7,"reason":"r"}"#, "request.hold"),
            (r#"{"hold":"ABCD2345","pardon":"ABCD2345","reason":"r"}"#, "several actions"),
            (r#"{"action":"hold","hold":"ABCD2345","reason":"r"}"#, "several actions"),
            (long.as_str(), "501 characters"),
        ] {
            let reason = TrainRequest::parse(payload).unwrap_err();
            assert!(reason.contains(words), "{payload}: {reason} should contain {words}");
        }
    }
}

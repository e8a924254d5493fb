//! CloudTrail: the management events of this account and region.

use std::cell::Cell;

use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::Later;
use sekisho_lambda::failure::chain;
use sekisho_lambda::signed::{Service, Signed};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};
use tracing::warn;

use crate::principal::{Kind, Principal};
use crate::trail::{Activity, Event};

/// CloudTrail as the signed calls know it.
pub const CLOUDTRAIL: Service = Service { id: "CloudTrail", host: "cloudtrail" };

const LOOKUP_EVENTS: &str = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents";
/// How many events one page has, which is the most that CloudTrail allows.
const PAGE_SIZE: usize = 50;
/// How many pages one search reads. At CloudTrail's rate, they take some twelve seconds.
const PAGES: usize = 20;
/// Pause between the beginnings of two calls. CloudTrail allows two calls a second in each account and region.
const PAUSE: Duration = Duration::from_millis(600);

/// CloudTrail of this account and region.
#[derive(Debug)]
pub struct Trail {
    client: Later<Signed>,
    /// When the last call began.
    last: Cell<Option<Instant>>,
}

impl Trail {
    /// Calls CloudTrail through this client.
    #[must_use]
    pub fn new(client: Later<Signed>) -> Self {
        Self { client, last: Cell::default() }
    }

    /// What the principal did between the two times, as far as CloudTrail shows it. The events of sessions have the
    /// name of the session, not of the role, so all events of the account are searched for those of a role: the writes
    /// first, because they matter most.
    ///
    /// # Errors
    /// If the first page cannot be read. If a later one cannot be read, the activity is cut.
    pub(crate) async fn activity(
        &self,
        principal: &Principal,
        account: &str,
        (from, until): (OffsetDateTime, OffsetDateTime),
        deadline: Instant,
    ) -> Result<Activity, ServiceError> {
        let searches: &[(&str, &str)] = match principal.kind() {
            Kind::User | Kind::Person => &[("Username", principal.name())],
            Kind::Role => &[("ReadOnly", "false"), ("ReadOnly", "true")],
        };
        let mut activity = Activity::default();
        for (turn, (key, value)) in searches.iter().enumerate() {
            let request = json!({
                "LookupAttributes": [{"AttributeKey": key, "AttributeValue": value}],
                "StartTime": from.unix_timestamp(),
                "EndTime": until.unix_timestamp(),
                "MaxResults": PAGE_SIZE,
            });
            let is_first = turn == 0;
            let add = |event: &Event| {
                if event.belongs_to(principal, account) {
                    activity.add(event);
                }
            };
            match self.search(request, is_first, deadline, add).await? {
                Extent::All => {}
                Extent::Newest => activity.is_cut = true,
            }
        }
        Ok(activity)
    }

    /// Reads the events page by page, the newest ones first.
    async fn search(
        &self,
        mut request: Value,
        is_first: bool,
        deadline: Instant,
        mut visit: impl FnMut(&Event),
    ) -> Result<Extent, ServiceError> {
        for page in 0..PAGES {
            let found = match self.page(&request, deadline).await {
                Ok(found) => found,
                Err(error) if is_first && page == 0 => return Err(error),
                Err(error) => {
                    warn!(error = chain(&error), "a summary lacks events");
                    return Ok(Extent::Newest);
                }
            };
            found.events.iter().filter_map(LookedUp::event).for_each(|event| visit(&event));
            let Some(next) = found.next_token.filter(|token| !token.is_empty()) else { return Ok(Extent::All) };
            if let Some(fields) = request.as_object_mut() {
                fields.insert("NextToken".to_owned(), next.into());
            }
        }
        Ok(Extent::Newest)
    }

    async fn page(&self, request: &Value, deadline: Instant) -> Result<Page, ServiceError> {
        const NAME: &str = "cloudtrail:LookupEvents";
        let call = async {
            if let Some(last) = self.last.get() {
                sleep_until(last + PAUSE).await;
            }
            self.last.set(Some(Instant::now()));
            self.client.json(LOOKUP_EVENTS, request).await
        };
        let answer = timeout_at(deadline, call).await;
        let answer = answer.unwrap_or_else(|_| Err(ServiceError::unexpected(NAME, "no answer in time")))?;
        serde_json::from_value(answer).map_err(|error| ServiceError::unexpected(NAME, error))
    }
}

/// How much a search has read.
enum Extent {
    /// All events.
    All,
    /// Only the newest events.
    Newest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    events: Vec<LookedUp>,
    #[serde(default)]
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LookedUp {
    /// The event as the trail has it, which is a JSON text.
    #[serde(default)]
    cloud_trail_event: String,
}

impl LookedUp {
    /// The event; `None` if its text has another form.
    fn event(&self) -> Option<Event> {
        serde_json::from_str(&self.cloud_trail_event).ok()
    }
}

//! What `sekisho-window` says, as far as this invocation can know.

use std::collections::BTreeMap;

use sekisho_domain::access::Access;
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::aws::iam::IamError;
use crate::policy;
use crate::row::{self, GrantRow};
use crate::run::{ATTEMPT_TIMEOUT, POLL_INTERVAL, RECHECK_LIMIT, Run};
use crate::window::Window;
use crate::window_policy::{self, Holder, Share, Version};
use crate::window_row::{Stored, WindowRow, key};

/// IAM shows every version within this time. What it doesn't show by then doesn't exist any more.
const SHOWN: Duration = Duration::minutes(2);

/// Whether a writer waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It waits, also until IAM shows the last version, and needs the ledger.
    Waits,
    /// It waits neither for its turn nor for IAM, but a change needs the ledger.
    GoesAhead,
    /// It waits for nothing. A revoke must end access, so it also works without the ledger.
    Revokes,
}

/// The state of the policy on which the next version is based.
#[derive(Debug)]
pub(crate) struct Base {
    /// The latest version that is known to exist.
    pub(super) known: u64,
    /// The text on which the next version is based: that of the latest version, unless somebody has set an older one.
    pub(super) document: String,
    /// What that text allows.
    pub(super) written: Vec<Share>,
    /// What the text would allow if its writer had overlooked nothing.
    pub(crate) shares: Vec<Share>,
    /// Whether all versions could be read that are needed for that.
    pub(super) is_complete: bool,
    /// After which version the next one says that it was written.
    pub(crate) after: u64,
}

/// Reads the policy's row. The next writer replaces a row that cannot be read, unless the row has no revision.
pub(crate) async fn read<S: Store>(run: &Run<'_, S>) -> Result<Option<Row<WindowRow>>, LedgerError> {
    let row = run.ledger.read::<Stored>(&key()).await?;
    Ok(row.map(|Row { sk, revision, state }| Row { sk, revision, state: state.or_unknown(run.now()) }))
}

/// The newest state: that which IAM shows or, as long as IAM may lag behind, that of the row. Somebody may have set an
/// older version by hand. A writer that waits therefore takes only what IAM shows. Any other writer takes the older
/// version if IAM proves that it is the one in force: nobody comes back because of a revoke. If the row's version is
/// not known, only its time counts: IAM may lag behind until two minutes after it.
///
/// # Errors
/// If IAM fails, or does not show the last version in time to a writer that waits.
pub(crate) async fn newest<S: Store>(
    row: Option<&WindowRow>,
    turn: Turn,
    limit: Instant,
    run: &Run<'_, S>,
) -> Result<Base, IamError> {
    let Some(center) = run.identity_center else { return Err(IamError::busy("there is no Identity Center")) };
    let limit = match turn {
        // The rest of the time is for the write.
        Turn::Waits => limit.checked_sub(ATTEMPT_TIMEOUT).unwrap_or(limit),
        // Whoever waits a little sees more often what others have written without the ledger.
        Turn::GoesAhead | Turn::Revokes => limit.min(Instant::now() + RECHECK_LIMIT / 2),
    };
    let row = row.filter(|row| turn == Turn::Waits || !row.is_unknown());
    loop {
        let shown = run.iam.default_version(center.policy()).await?;
        let now = timestamp::epoch_millis(run.now() - SHOWN);
        let later = row.filter(|row| (shown < row.version || row.is_unknown()) && now < row.written);
        // The row's version is not known, so nothing that IAM shows could end the wait.
        let is_in_vain = later.is_some_and(WindowRow::is_unknown);
        let can_wait = !is_in_vain && Instant::now() + POLL_INTERVAL < limit;
        let is_shown = row.is_some_and(|row| row.version <= shown && !row.is_unknown());
        let is_certain = is_shown || later.is_some() && turn == Turn::Waits;
        let back = if is_certain { None } else { set_back(row, center.policy(), run).await };
        if let Some((default, known)) = back
            && let Some(text) = run.iam.version(center.policy(), default).await?
        {
            return Ok(Base::set_back(known, text.document));
        }
        match later {
            Some(_) if can_wait => {}
            Some(_) if turn == Turn::Waits => {
                return Err(IamError::busy("IAM still shows an older version of sekisho-window"));
            }
            Some(row) => return Ok(Base::of(row.version, row.version, row.document.clone(), None, limit, run).await),
            None => {
                let known = row.map_or(shown, |row| row.version.max(shown));
                match run.iam.version(center.policy(), shown).await? {
                    Some(text) => return Ok(Base::of(known, shown, text.document, text.created, limit, run).await),
                    None if can_wait => {}
                    None => return Err(IamError::busy("IAM shows different states of sekisho-window")),
                }
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// The version in force and the newest one, if somebody has set an older version by hand. A write puts the newest
/// version in force, so an older one that IAM shows beside it is no read that lags behind.
async fn set_back<S: Store>(row: Option<&WindowRow>, policy: &str, run: &Run<'_, S>) -> Option<(u64, u64)> {
    let found = run.iam.default_and_newest(policy).await;
    let found = found.inspect_err(|error| warn!(error = chain(error), "the versions of sekisho-window are not listed"));
    found.ok().filter(|(default, newest)| default < newest && row.is_none_or(|row| row.version <= *newest))
}

impl Base {
    /// The state after somebody has set an older version by hand: what its text allows, whatever its writer overlooked.
    fn set_back(known: u64, document: String) -> Self {
        let written = window_policy::read(&document).shares;
        Self { known, document, shares: written.clone(), written, is_complete: true, after: known }
    }

    /// The state after a version that this invocation has written, although others had written in the meantime.
    pub(super) async fn written<S: Store>(id: u64, document: String, limit: Instant, run: &Run<'_, S>) -> Option<Self> {
        let now = run.now();
        (Instant::now() < limit).then_some(())?;
        Some(Self::of(id, id, document, Some(now), limit, run).await)
    }

    /// `created` is when the version was written; `None` if that was just now.
    async fn of<S: Store>(
        known: u64,
        id: u64,
        document: String,
        created: Option<OffsetDateTime>,
        limit: Instant,
        run: &Run<'_, S>,
    ) -> Self {
        let version = window_policy::read(&document);
        let (written, after) = (version.shares.clone(), version.after);
        let mut versions = BTreeMap::from([(id, version)]);
        let is_old = created.is_some_and(|created| created.saturating_add(SHOWN) < run.now());
        let is_complete = complete(&mut versions, id, limit, run).await || is_old;
        let shares = window_policy::effective(&versions, id);
        // The next version of an incomplete one says the same as that one, so that it can still be repaired.
        let after = if is_complete { known } else { after.unwrap_or(known) };
        Self { known, document, written, shares, is_complete, after }
    }
}

/// Reads the versions that are missing. Returns whether all could be read.
async fn complete<S: Store>(versions: &mut BTreeMap<u64, Version>, id: u64, limit: Instant, run: &Run<'_, S>) -> bool {
    let Some(center) = run.identity_center else { return false };
    while let Some(missing) = window_policy::missing(versions, id) {
        match run.iam.version(center.policy(), missing).await {
            Ok(Some(text)) => {
                versions.insert(missing, window_policy::read(&text.document));
                continue;
            }
            Ok(None) => {}
            Err(error) => warn!(error = chain(&error), "a version of sekisho-window is not read"),
        }
        if Instant::now() + POLL_INTERVAL >= limit {
            return false;
        }
        sleep(POLL_INTERVAL).await;
    }
    true
}

/// The grants of people that the ledger records, and that have not ended.
pub(crate) async fn holders<S: Store>(run: &Run<'_, S>) -> Result<Vec<Holder>, LedgerError> {
    let rows = run.ledger.each::<GrantRow>(row::PARTITION, row::PEOPLE).await?;
    let rows: Vec<Row<GrantRow>> = rows.into_iter().filter_map(Result::ok).collect();
    Ok(holders_in(&rows, run.now()))
}

/// The grants in these rows that have not ended.
pub(crate) fn holders_in(rows: &[Row<GrantRow>], now: OffsetDateTime) -> Vec<Holder> {
    let holders = rows.iter().filter(|row| row.state.gives_access(now)).filter_map(|row| {
        let (principal, profile) = row::subject(&row.sk)?;
        Some(Holder {
            user: principal.key().to_owned(),
            profile: profile.to_owned(),
            window: row.state.window(),
            statements: row.state.statements.clone(),
        })
    });
    holders.collect()
}

/// The statements of all configured profiles, as those of nobody.
pub(crate) fn configured(access: Option<&Access>) -> Vec<Holder> {
    let any = Window { start: OffsetDateTime::UNIX_EPOCH, end: OffsetDateTime::UNIX_EPOCH };
    let profiles = access.into_iter().flat_map(|access| &access.profiles);
    let configured = profiles.map(|(name, profile)| Holder {
        user: String::new(),
        profile: name.to_string(),
        window: any,
        statements: window_policy::statements(&policy::document(profile, any, any.start)),
    });
    configured.collect()
}

//! Finds what a request names: its route, wave, branch or tag, and revision.

use sekisho_domain::change::{RefKind, SourceRef};
use sekisho_domain::code::Code;
use sekisho_domain::route::Route;
use sekisho_domain::slack;
use sekisho_ledger::Store;

use crate::code::{self, CodeRow, Event};
use crate::error::Error;
use crate::run::Run;
use crate::selection::{listed, route, routes_here};
use crate::train::TrainRow;
use crate::train_effect::Named;
use crate::train_request::{Subject, TrainAction, TrainRequest};
use crate::world::World;

/// What a request names.
pub(super) struct Names<'r> {
    pub(super) route: &'r Route,
    pub(super) wave: Option<String>,
    pub(super) source_ref: Option<SourceRef>,
    pub(super) revision: Option<Named>,
    /// The event of the notice whose code the request has.
    pub(super) event: Option<Event>,
    /// Who asks, as far as that is known.
    pub(super) by: Option<String>,
    pub(super) needs_rows: Rows,
}

/// The rows of targets on which the answer depends.
pub(super) enum Rows {
    All,
    OfWave,
}

/// Finds what a request names. A code needs one read of the ledger.
///
/// # Errors
/// [`Error::NotFound`] if a name or code is unknown, and [`Error::InvalidRequest`] if a name is ambiguous.
pub(super) async fn find<'r, W: World>(run: &Run<'r, W>, request: &TrainRequest) -> Result<Names<'r>, Error> {
    let here = &run.invocation.region;
    let action = request.action;
    let mut names = match &request.subject {
        Subject::Named { route: name, wave, revision } => {
            let route = route(run.routes, here, name)?;
            names_of(route, wave.clone(), revision.clone().map(Named::Prefix))
        }
        Subject::Short(short) => match short_names(run, short)? {
            Some((route, wave)) => names_of(route, wave, None),
            None => by_code(run, short).await?,
        },
    };
    if let Some(text) = &request.source_ref {
        names.source_ref = Some(source_ref(names.route, text)?);
    }
    if action == TrainAction::Train || request.is_dry_run {
        names.needs_rows = Rows::All;
    }
    if action == TrainAction::Pardon && names.revision.is_none() {
        let example = action.example(names.route.name(), "");
        return Err(Error::InvalidRequest(format!(
            "a pardon needs a revision, or the code of a notice: send {example}"
        )));
    }
    names.check_plain(action)?;
    Ok(names)
}

fn names_of(route: &Route, wave: Option<String>, revision: Option<Named>) -> Names<'_> {
    Names { route, wave, source_ref: None, revision, event: None, by: None, needs_rows: Rows::OfWave }
}

/// The route and the wave of `route` or `route/wave`, if a route has the name. Names win over codes.
fn short_names<'r, W>(run: &Run<'r, W>, short: &str) -> Result<Option<(&'r Route, Option<String>)>, Error> {
    let here = &run.invocation.region;
    let is_known = |name: &str| run.routes.iter().any(|route| route.name() == name);
    if is_known(short) {
        return Ok(Some((route(run.routes, here, short)?, None)));
    }
    match short.split_once('/') {
        Some((name, wave)) => Ok(Some((route(run.routes, here, name)?, Some(wave.to_owned())))),
        None => Ok(None),
    }
}

async fn by_code<'r, W: World>(run: &Run<'r, W>, text: &str) -> Result<Names<'r>, Error> {
    let here = &run.invocation.region;
    let shown = slack::quoted(text);
    let row = match text.parse::<Code>() {
        Ok(code) => run.world.ledger().read::<CodeRow>(&code::key(&code)).await?,
        Err(_) => None,
    };
    let Some(row) = row.map(|row| row.state).filter(|row| row.is_valid(run.now())) else {
        let routes = listed(routes_here(run.routes, here).map(Route::name));
        return Err(Error::NotFound(format!(
            "`{shown}` is neither a route nor a code that can still be used: write a code of the last 14 days, or one \
             of {routes}"
        )));
    };
    let revision = match &row.event {
        Event::Condemned { revision, .. } | Event::Unknown { revision, .. } => Some(Named::Exact(revision.clone())),
        Event::Held { .. } => None,
    };
    let route = route(run.routes, here, &row.route)?;
    let by = Some(format!("the code {}", text.to_ascii_uppercase()));
    let source_ref = match &row.event {
        Event::Held { source_ref, .. } => source_ref.clone(),
        _ => None,
    };
    let event = Some(row.event);
    Ok(Names { source_ref, event, by, ..names_of(route, row.wave, revision) })
}

/// The branch or tag that a person names: `main` or `refs/heads/main`.
fn source_ref(route: &Route, text: &str) -> Result<SourceRef, Error> {
    if text.starts_with("refs/") {
        return text
            .parse()
            .map_err(|reason| Error::InvalidRequest(format!("`ref`: {}", slack::shown(&format!("{reason}")))));
    }
    let kinds = [RefKind::Branch, RefKind::Tag, RefKind::Image].into_iter();
    let refs = kinds.filter_map(|kind| SourceRef::new(kind, text).ok());
    let covered: Vec<SourceRef> = refs.filter(|source_ref| route.coverage(source_ref).is_some()).collect();
    let shown = slack::quoted(text);
    match covered.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::NotFound(format!(
            "the route `{}` has no branch or tag `{shown}`: write one that it includes, or a full name such as \
             refs/heads/main",
            slack::shown(route.name())
        ))),
        _ => Err(Error::InvalidRequest(format!(
            "`{shown}` may be a branch and a tag: write refs/heads/{shown} or refs/tags/{shown}"
        ))),
    }
}

impl Names<'_> {
    /// Refuses what a route without waves does not have.
    fn check_plain(&self, action: TrainAction) -> Result<(), Error> {
        let is_for_all = matches!(action, TrainAction::Train | TrainAction::Hold | TrainAction::Resume);
        if !self.route.waves().is_empty() || is_for_all {
            return Ok(());
        }
        let route = slack::shown(self.route.name());
        Err(Error::Refused(format!(
            "the route `{route}` has no waves: nothing bakes, rolls back or is condemned there"
        )))
    }

    /// Checks the wave's name. `resume` also takes the old name of a wave that is gone.
    pub(super) fn check_wave(&self, action: TrainAction, row: &TrainRow) -> Result<(), Error> {
        let waves = || listed(self.route.waves().iter().map(|wave| wave.name.as_str()));
        let route = self.route.name();
        let Some(wave) = &self.wave else {
            let first = self.route.waves().first().map_or("", |wave| wave.name.as_str());
            return if action.needs_wave() {
                let example = action.example(route, first);
                Err(Error::InvalidRequest(format!("`wave` is missing: write one of {}, as in {example}", waves())))
            } else {
                Ok(())
            };
        };
        let is_held = || action == TrainAction::Resume && row.holds.iter().any(|hold| hold.wave.as_ref() == Some(wave));
        // A condemnation names its wave, which may be gone by the time of a pardon.
        let is_known = self.route.waves().iter().any(|one| one.name == *wave);
        if is_known || matches!(action, TrainAction::Pardon | TrainAction::Train) || is_held() {
            return Ok(());
        }
        let instead = if self.route.waves().is_empty() {
            "it has no waves, so leave out `wave`".to_owned()
        } else {
            format!("write one of {}", waves())
        };
        let (route, wave) = (slack::shown(route), slack::quoted(wave));
        Err(Error::NotFound(format!("the route `{route}` has no wave `{wave}`: {instead}")))
    }
}

//! Selects the targets that a request or a report concerns.

use std::collections::BTreeSet;

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::route::{PipelineName, Route, Routes, Target, TargetId};
use sekisho_domain::slack;

use crate::error::Error;

/// The most names that an error lists.
const MOST_LISTED: usize = 10;

/// The routes of the function's own region. A function in another region handles the other routes.
pub(crate) fn routes_here<'r>(routes: &'r Routes, here: &'r Region) -> impl Iterator<Item = &'r Route> {
    routes.iter().filter(|route| route.is_for_region(here.as_str()))
}

/// The routes of the function's own region that lead to a target.
pub(crate) fn routes_to<'r>(
    routes: &'r Routes,
    here: &'r Region,
    target: &'r TargetId,
) -> impl Iterator<Item = &'r Route> {
    routes_here(routes, here).filter(move |route| route.targets().iter().any(|one| is_target(one, target)))
}

/// Whether a target of a route has this id.
pub(crate) fn is_target(target: &Target, id: &TargetId) -> bool {
    target.account == id.account && target.region == id.region && target.pipeline == id.pipeline
}

/// All targets of the routes in the function's own region.
pub(crate) fn all_targets(routes: &Routes, here: &Region) -> BTreeSet<TargetId> {
    routes_here(routes, here).flat_map(Route::targets).map(Target::id).collect()
}

/// The route that a person names.
///
/// # Errors
/// [`Error::NotFound`] if no route has the name, and [`Error::InvalidRequest`] if several routes have it.
pub(crate) fn route<'r>(routes: &'r Routes, here: &'r Region, name: &str) -> Result<&'r Route, Error> {
    let matching: Vec<&Route> = routes_here(routes, here).filter(|route| route.name() == name).collect();
    let shown = slack::quoted(name);
    match matching.as_slice() {
        [one] => Ok(one),
        [] => {
            let elsewhere = routes.iter().find(|route| route.name() == name).and_then(Route::region);
            Err(Error::NotFound(if let Some(region) = elsewhere {
                format!(
                    "the route `{shown}` is only for repositories of {region}: send the request to \
                     sekisho-event-relay in that region"
                )
            } else {
                let names = listed(routes_here(routes, here).map(Route::name));
                format!("there is no route `{shown}`: write one of {names}")
            }))
        }
        several => Err(Error::InvalidRequest(format!(
            "{} routes go by `{shown}`: give each of them a `name` in the configuration, and write that name",
            several.len()
        ))),
    }
}

/// The targets of a route in an account, narrowed to a region and a pipeline.
///
/// # Errors
/// [`Error::InvalidRequest`] if the route has no target in the account, and [`Error::NotFound`] if none of its targets
/// there has this region and pipeline.
pub(crate) fn targets(
    route: &Route,
    account: &AccountId,
    region: Option<&Region>,
    pipeline: Option<&PipelineName>,
) -> Result<BTreeSet<TargetId>, Error> {
    let name = slack::shown(route.name());
    let in_account: Vec<&Target> = route.targets().iter().filter(|target| target.account == *account).collect();
    if in_account.is_empty() {
        let accounts = listed(route.targets().iter().map(|target| target.account.as_str()));
        return Err(Error::InvalidRequest(format!(
            "the route `{name}` has no target in account {account}: write one of {accounts}"
        )));
    }
    let is_selected = |target: &&&Target| {
        region.is_none_or(|region| target.region == *region)
            && pipeline.is_none_or(|pipeline| target.pipeline == *pipeline)
    };
    let selected: BTreeSet<TargetId> = in_account.iter().filter(is_selected).map(|target| target.id()).collect();
    if selected.is_empty() {
        let ids: Vec<String> = in_account.iter().map(|target| target.id().to_string()).collect();
        let ids = listed(ids.iter().map(String::as_str));
        return Err(Error::NotFound(format!(
            "the route `{name}` has no target with this region and pipeline in account {account}: its targets there \
             are {ids}"
        )));
    }
    Ok(selected)
}

/// Different names, sorted and separated by commas. A long list is cut.
pub(crate) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: BTreeSet<String> = names.map(slack::shown).collect();
    let more = names.len().saturating_sub(MOST_LISTED);
    let first: Vec<String> = names.into_iter().take(MOST_LISTED).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &rest
}

#[cfg(test)]
mod tests {
    use sekisho_domain::config::Document;
    use sekisho_lambda::Failure;

    use super::*;

    fn config(heads: &[&str]) -> Routes {
        let one = |head: &&str| {
            format!(
                "[[route]]\n{head}\nbranches = [\"main\"]\n[[route.target]]\naccounts = [\"222222222222\", \
                 \"333333333333\"]\nregions = [\"ap-northeast-1\", \"us-east-1\"]\npipeline = \"p\"\naction = \"S\"\n"
            )
        };
        let text: String = heads.iter().map(one).collect();
        Document::parse("t", &text).unwrap().routes().unwrap()
    }

    fn here() -> Region {
        "ap-northeast-1".parse().unwrap()
    }

    #[test]
    fn a_route_goes_by_its_name_or_else_by_its_repository() {
        let routes = config(&["name = \"web\"\nrepository = \"website\"", "repository = \"shop-*\""]);
        assert_eq!(route(&routes, &here(), "web").unwrap().repository().pattern(), "website");
        assert_eq!(route(&routes, &here(), "shop-*").unwrap().repository().pattern(), "shop-*");
        let error = route(&routes, &here(), "website").unwrap_err();
        assert_eq!(error.error_type().name(), "NotFound");
        assert!(error.to_string().contains("shop-*, web"), "{error}");
    }

    #[test]
    fn a_name_that_several_routes_go_by_is_invalid() {
        let error = route(&config(&["repository = \"shop\""; 2]), &here(), "shop").unwrap_err();
        assert_eq!(error.error_type().name(), "InvalidRequest");
        assert!(error.to_string().contains("`name`"), "{error}");
    }

    #[test]
    fn a_route_of_another_region_names_that_region() {
        let routes = config(&["repository = \"shop\"\nregion = \"eu-west-1\""]);
        let error = route(&routes, &here(), "shop").unwrap_err();
        assert_eq!(error.error_type().name(), "NotFound");
        assert!(error.to_string().contains("eu-west-1"), "{error}");
        assert!(all_targets(&routes, &here()).is_empty());
        assert_eq!(all_targets(&routes, &"eu-west-1".parse().unwrap()).len(), 4);
    }

    #[test]
    fn targets_are_narrowed_by_region_and_pipeline() {
        let routes = config(&["repository = \"shop\""]);
        let select = |account: &str, region: Option<&str>, pipeline: Option<&str>| {
            let region = region.map(|region| region.parse().unwrap());
            let pipeline = pipeline.map(|pipeline| pipeline.parse().unwrap());
            targets(&routes[0], &account.parse().unwrap(), region.as_ref(), pipeline.as_ref())
        };
        assert_eq!(select("222222222222", None, None).unwrap().len(), 2);
        let one: Vec<String> =
            select("222222222222", Some("us-east-1"), Some("p")).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(one, ["222222222222/us-east-1/p"]);
        for (answer, error_type, words) in [
            (select("444444444444", None, None), "InvalidRequest", "write one of 222222222222, 333333333333"),
            (select("222222222222", Some("eu-west-1"), None), "NotFound", "222222222222/us-east-1/p"),
            (select("222222222222", None, Some("q")), "NotFound", "222222222222/us-east-1/p"),
        ] {
            let error = answer.unwrap_err();
            assert_eq!(error.error_type().name(), error_type);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names: Vec<String> = (10..25).map(|n| format!("n{n}")).collect();
        assert!(listed(names.iter().map(String::as_str)).ends_with("n19 and 5 more"));
    }
}

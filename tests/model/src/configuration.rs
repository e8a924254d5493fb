//! The configurations that the accounts of a history deploy. They differ in a few features, and each account deploys a
//! new configuration at its own moment.

use std::cell::RefCell;
use std::collections::BTreeMap;

use sekisho_domain::config::Document;
use sekisho_domain::route::{Routes, TargetId};

use crate::cloud::PLACES;
use crate::codepipeline::{IMAGE, SOURCE};
use crate::repository::PATHS;
use crate::{developer, publisher};

/// The optional parts of a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Features(u16);

/// The second place also runs the pipeline `all`: a target that joins a route or leaves it.
pub(crate) const SECOND_TARGET: u16 = 1;
/// The pipeline `api` follows only some paths of `main`: a route that is removed and comes back.
pub(crate) const PATH_ROUTE: u16 = 2;
/// The pipeline `both` follows `release/*` of both repositories as well as `main`: a glob that covers branches which
/// already exist.
pub(crate) const RELEASE_GLOB: u16 = 4;

/// The pipeline `images` follows `v*` besides `live`: a glob that covers tags of images which already exist.
pub(crate) const IMAGE_GLOB: u16 = 8;
/// The pipelines `images` and `pair` follow tags of images. `pair` also follows `main`, with another source action. The
/// configurations of a history have this feature, or none of them has it.
pub(crate) const IMAGES: u16 = 16;

/// The number of different configurations without images. The features with smaller bits may change in any history.
pub(crate) const CONFIGURATIONS: u16 = 8;

/// The number of features that change in a history, without and with images.
pub(crate) const TOGGLED: [usize; 2] = [3, 4];

impl Features {
    /// The features with these bits.
    pub(crate) fn new(bits: usize) -> Self {
        Self(u16::try_from(bits).unwrap_or_default())
    }

    /// Adds or removes one feature.
    pub(crate) fn toggled(self, feature: usize) -> Self {
        Self(self.0 ^ (1 << feature))
    }

    /// The features as a number.
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    pub(crate) fn has(self, feature: u16) -> bool {
        self.0 & feature != 0
    }

    /// The configuration file.
    fn text(self) -> String {
        let target = |place: usize, pipeline: &str| target_text(place, pipeline, SOURCE);
        let route = |keys: &str, targets: &[String]| format!("[[route]]\n{keys}\n{}", targets.concat());
        let mut all = vec![target(0, "all")];
        if self.has(SECOND_TARGET) {
            all.push(target(1, "all"));
        }
        let mut routes = vec![
            route("repository = \"shop\"\nname = \"all\"\nbranches = [\"main\"]", &all),
            route("repository = \"shop\"\nname = \"tags\"\ntags = [\"live\", \"v*\"]", &[target(1, "tags")]),
            route("repository = \"shelf\"\nname = \"shelf\"\nbranches = [\"main\"]", &[target(0, "shelf")]),
        ];
        if self.has(PATH_ROUTE) {
            let keys =
                "repository = \"shop\"\nname = \"api\"\nbranches = [\"main\"]\npaths = [\"api/**\", \"!**/*.md\"]";
            routes.push(route(keys, &[target(0, "api")]));
        }
        let branches = if self.has(RELEASE_GLOB) { "[\"main\", \"release/*\"]" } else { "[\"main\"]" };
        // The glob matches both repositories.
        let keys = format!("repository = \"sh*\"\nname = \"both\"\nbranches = {branches}");
        routes.push(route(&keys, &[target(1, "both")]));
        if self.has(IMAGES) {
            let tags = if self.has(IMAGE_GLOB) { "[\"live\", \"v*\"]" } else { "[\"live\"]" };
            // The glob of the repository does not include the cache of another registry.
            let keys = format!("image = \"sh**\"\nname = \"images\"\ntags = {tags}");
            routes.push(route(&keys, &[target_text(0, "images", IMAGE)]));
            routes.push(route("repository = \"shop\"\nname = \"pair\"\nbranches = [\"main\"]", &[target(1, "pair")]));
            let keys = "image = \"shop\"\nname = \"pair-image\"\ntags = [\"live\"]";
            routes.push(route(keys, &[target_text(1, "pair", IMAGE)]));
        }
        routes.concat()
    }

    /// The routes. They are parsed once.
    pub(crate) fn routes(self) -> Routes {
        thread_local! {
            static ROUTES: RefCell<BTreeMap<u16, Routes>> = const { RefCell::new(BTreeMap::new()) };
        }
        let parsed = || parse(&self.text());
        ROUTES.with(|routes| routes.borrow_mut().entry(self.0).or_insert_with(parsed).clone())
    }
}

fn target_text(place: usize, pipeline: &str, action: &str) -> String {
    let (account, region) = PLACES[place];
    format!(
        "[[route.target]]\naccount = \"{account}\"\nregion = \"{region}\"\npipeline = \"{pipeline}\"\n\
         action = \"{action}\"\n"
    )
}

pub(crate) fn parse(text: &str) -> Routes {
    let routes = Document::parse("model", text).and_then(|document| document.routes_and_windows());
    let routes = routes.unwrap_or_else(|error| unreachable!("the model's configuration is wrong: {error}"));
    compile(&routes);
    routes
}

/// Matches every name once. Otherwise, each clone of the routes would compile its globs anew.
fn compile(routes: &Routes) {
    for reference in developer::references().chain(publisher::references()) {
        let (repository, source_ref) = (reference.arn(), &reference.source_ref);
        for route in routes.concerning(&repository, source_ref) {
            let _ = PATHS.map(|path| route.touched_by([path]));
        }
    }
}

/// The target with this pipeline at this place.
pub(crate) fn target(place: usize, pipeline: &str) -> TargetId {
    let (account, region) = PLACES[place];
    format!("{account}/{region}/{pipeline}").parse().unwrap_or_else(|error| unreachable!("{error}"))
}

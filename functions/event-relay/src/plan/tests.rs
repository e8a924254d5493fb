use sekisho_domain::change::RepositoryArn;
use sekisho_domain::config::Document;
use time::Duration;
use time::macros::datetime;

use super::*;
use crate::sources::Sources;
use crate::target::TargetRow;

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

/// A configuration that routes the branch `main` and the tags `v*`, for changes of paths that match `api/**`.
const CONFIG: &str = r#"
    [[route]]
    repository = "shop"
    branches = ["main"]
    tags = ["v*"]
    paths = ["api/**"]
    [[route.target]]
    account = "222222222222"
    region = "ap-northeast-1"
    pipeline = "api"
    action = "Source"
"#;

fn routes(pipelines: &[&str]) -> Routes {
    let (head, target) = CONFIG.split_once("    [[route.target]]").unwrap();
    let targets: Vec<String> = pipelines
        .iter()
        .map(|pipeline| format!("[[route.target]]{}", target.replace("\"api\"", &format!("\"{pipeline}\""))))
        .collect();
    Document::parse("t", &format!("{head}{}", targets.concat())).unwrap().routes().unwrap()
}

fn id(pipeline: &str) -> TargetId {
    format!("222222222222/ap-northeast-1/{pipeline}").parse().unwrap()
}

fn commit(n: u64) -> Revision {
    format!("{n:040x}").parse().unwrap()
}

fn hint(source_ref: &str) -> Hint {
    let repository = "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap();
    Hint { event: Some("event".to_owned()), ..Hint::without_event(&repository, source_ref.parse().unwrap()) }
}

fn change(n: u64, sequence: u64) -> Change {
    let hint = hint("refs/heads/main");
    let row = BranchRow { commit: Some(commit(n)), sequence, ..BranchRow::default() };
    row.change(&hint.repository, &hint.source_ref).unwrap()
}

/// A row whose first commit was relayed to the pipeline `api`.
fn relayed() -> BranchRow {
    BranchRow::default().relayed(&change(1, 7), vec![id("api")])
}

/// A row of the version before orders.
fn earlier() -> BranchRow {
    BranchRow { targets: None, ..relayed() }
}

/// A row with a pending change to the second commit for the pipeline `api`.
fn pending(row: &BranchRow) -> BranchRow {
    let pending = row.with_pending(change(2, 8), deliveries(&[id("api")]), vec![], NOW);
    BranchRow { targets: row.targets.as_ref().map(|_| vec![]), ..pending }
}

/// Describes a plan in one line, so that a table of cases can contain the expected plan.
fn summary(plan: Result<Plan, Missing>) -> String {
    match plan {
        Err(Missing::Row) => "read the row".to_owned(),
        Err(Missing::Head) => "read the head".to_owned(),
        Err(Missing::Image(_)) => "read the image".to_owned(),
        Err(Missing::Floor) => "read the floor".to_owned(),
        Err(Missing::Paths { previous, .. }) => format!("read the paths since {}", previous.is_some()),
        Err(Missing::Rows { targets, trains }) => {
            format!("read the rows of {} targets and {} trains", targets.len(), trains.len())
        }
        Ok(Plan::Order(ordering)) => {
            let to: Vec<&str> = ordering.part.placed.iter().map(|placed| placed.target.pipeline.as_str()).collect();
            let covered: Vec<TargetId> = ordering.finished.row.targets.unwrap();
            let covered: Vec<&str> = covered.iter().map(|target| target.pipeline.as_str()).collect();
            let commit = ordering.change.revision.as_str().trim_start_matches('0');
            format!(
                "order {commit} with {} to [{}], {} duplicates, {} superseded, {} notes, covers [{}]",
                ordering.change.sequence,
                to.join(" "),
                ordering.part.duplicates,
                ordering.part.superseded,
                ordering.notes.len() + ordering.part.unreadable.len(),
                covered.join(" ")
            )
        }
        Ok(Plan::Decide(verdict)) => {
            let remember = verdict.remember.map_or("nothing".to_owned(), |row| {
                let targets = row.targets.map_or("unknown".to_owned(), |targets| targets.len().to_string());
                format!("pending {}, untouched {}, {targets} targets", row.pending.is_some(), row.untouched.is_some())
            });
            let outcomes: Vec<String> = verdict.decisions.iter().map(|one| format!("{:?}", one.outcome)).collect();
            format!("{}, remember {remember}", outcomes.join(" "))
        }
        Ok(Plan::Nothing) => "nothing".to_owned(),
    }
}

/// The input of a plan. What is `None` has not been read.
#[derive(Clone)]
struct Case {
    source_ref: &'static str,
    trigger: Trigger,
    pipelines: &'static [&'static str],
    row: Option<Snapshot<BranchRow>>,
    head: Option<Head>,
    changed: Option<&'static str>,
    floor: Option<u64>,
    /// The rows of all routed targets are read. This target has this row, and the others have none.
    target: Option<(&'static str, TargetRow)>,
}

fn case() -> Case {
    Case {
        source_ref: "refs/heads/main",
        trigger: Trigger::Event,
        pipelines: &["api"],
        row: None,
        head: None,
        changed: None,
        floor: None,
        target: None,
    }
}

impl Case {
    fn row(row: BranchRow) -> Self {
        Self { row: Some(Snapshot { row, revision: Some(3) }), ..case() }
    }

    fn at(self, n: u64) -> Self {
        Self { head: Some(Head::At(commit(n))), ..self }
    }

    fn touching(self, path: &'static str) -> Self {
        Self { changed: Some(path), ..self }
    }

    /// All rows of targets are read, and none exists.
    fn new_targets(self) -> Self {
        Self { target: Some(("other", TargetRow::default())), ..self }
    }

    fn plan(self, now: OffsetDateTime) -> String {
        let (routes, hint) = (routes(self.pipelines), hint(self.source_ref));
        let mut facts = Facts::new(&routes, &hint, self.trigger, self.row);
        (facts.head, facts.floor) = (self.head, self.floor);
        if let Some(path) = self.changed {
            facts.touched.add_paths(&BTreeSet::from([path.to_owned()]));
            facts.touched = facts.touched.without_further_paths();
        }
        if let Some((pipeline, row)) = self.target {
            for target in routes.target_ids() {
                facts.targets.read.insert(target, Snapshot::default());
            }
            facts.trains.insert("shop".to_owned(), Snapshot::default());
            facts.targets.read.insert(id(pipeline), Snapshot { row, revision: Some(5) });
        }
        summary(plan(&facts, now))
    }
}

fn assert_plans(cases: impl IntoIterator<Item = (Case, String)>, now: OffsetDateTime) {
    for (index, (case, expected)) in cases.into_iter().enumerate() {
        assert_eq!(case.plan(now), expected, "case {index}");
    }
}

fn digest() -> String {
    let (routes, hint) = (routes(&["api"]), hint("refs/heads/main"));
    TouchedRoutes::new(&routes, &hint.repository, &hint.source_ref).paths_digest().to_owned()
}

#[test]
fn facts_are_read_only_when_the_plan_depends_on_them() {
    let new = Case { row: Some(Snapshot::default()), ..case() };
    let floor = Case { floor: Some(0), ..new.clone().at(2).touching("api/x") };
    assert_plans(
        [
            (Case { source_ref: "refs/heads/other", ..case() }, "Filtered, remember nothing".into()),
            (case(), "read the row".into()),
            (Case::row(relayed()), "read the head".into()),
            (Case::row(relayed()).at(2), "read the paths since true".into()),
            (Case::row(relayed()).at(2).touching("api/x"), "read the rows of 1 targets and 1 trains".into()),
            (new.clone().at(2), "read the paths since false".into()),
            (new.at(2).touching("api/x"), "read the floor".into()),
            (floor, "read the rows of 1 targets and 1 trains".into()),
        ],
        NOW,
    );
}

#[test]
fn a_head_that_needs_no_order() {
    let untouched = || Some(Untouched { commit: commit(2), paths: digest() });
    let with_untouched = |row: BranchRow| Case::row(BranchRow { untouched: untouched(), ..row }).at(2);
    let reconcile = |case: Case| Case { trigger: Trigger::Reconcile, ..case };
    let readme = || Case::row(relayed()).at(2).touching("README.md");
    assert_plans(
        [
            (Case::row(relayed()).at(1), "Duplicate, remember nothing".into()),
            (Case { head: Some(Head::NoRef), ..Case::row(relayed()) }, "Ignored, remember nothing".into()),
            (Case { head: Some(Head::NoRepository), ..Case::row(relayed()) }, "Ignored, remember nothing".into()),
            (with_untouched(relayed()), "Filtered, remember nothing".into()),
            (readme(), "Filtered, remember nothing".into()),
            (reconcile(readme()), "Filtered, remember pending false, untouched true, 1 targets".into()),
            // A row of an earlier version gets the targets that are routed now.
            (Case::row(earlier()).at(1), "Duplicate, remember pending false, untouched false, 1 targets".into()),
            (with_untouched(earlier()), "Filtered, remember pending false, untouched true, 1 targets".into()),
            // A branch that was deleted and came back at the same commit.
            (
                Case::row(relayed().expiring(NOW)).at(1),
                "Duplicate, remember pending false, untouched false, 1 targets".into(),
            ),
            (reconcile(Case { source_ref: "refs/heads/other", ..Case::row(relayed()) }), "nothing".into()),
        ],
        NOW,
    );
}

#[test]
fn a_new_head_gets_the_largest_sequence_of_its_targets() {
    let clock = epoch_millis(NOW);
    let touched = |row: BranchRow| Case::row(row).at(2).touching("api/x");
    let desires =
        |n, sequence| Some(("api", TargetRow::default().placed(&change(n, sequence), Sources::unrouted(), NOW)));
    let order =
        |sequence: u64| format!("order 2 with {sequence} to [api], 0 duplicates, 0 superseded, 0 notes, covers [api]");
    let ahead = BranchRow { sequence: clock + 5, ..relayed() };
    let new = Case { row: Some(Snapshot::default()), ..touched(relayed()).new_targets() };
    assert_plans(
        [
            (touched(relayed()).new_targets(), order(clock)),
            (touched(ahead).new_targets(), order(clock + 6)),
            (Case { target: desires(9, clock + 7), ..touched(relayed()) }, order(clock + 8)),
            (Case { floor: Some(clock + 9), ..new }, order(clock + 10)),
            (
                Case { target: desires(2, 6), ..touched(relayed()) },
                format!("order 2 with {clock} to [], 1 duplicates, 0 superseded, 0 notes, covers [api]"),
            ),
        ],
        NOW,
    );
}

#[test]
fn a_target_that_joined_gets_a_new_head_whatever_it_touches() {
    let clock = epoch_millis(NOW);
    let two = |path| Case { pipelines: &["api", "new"], ..Case::row(relayed()).at(2).touching(path).new_targets() };
    let order =
        |to: &str| format!("order 2 with {clock} to [{to}], 0 duplicates, 0 superseded, 0 notes, covers [api new]");
    assert_plans([(two("README.md"), order("new")), (two("api/x"), order("api new"))], NOW);
    // An earlier version recorded no targets, so nobody counts as joined.
    let row = Some(Snapshot { row: earlier(), revision: Some(3) });
    assert_eq!(Case { row, ..two("README.md") }.plan(NOW), "Filtered, remember nothing");
}

/// The head was compared when only the route with paths existed. The new target gets that head, and not the last one
/// that was relayed.
#[test]
fn a_target_that_joined_gets_a_head_that_touches_no_path() {
    let untouched = Some(Untouched { commit: commit(2), paths: digest() });
    let row = Case::row(BranchRow { untouched, ..relayed() }).at(2);
    assert_eq!(row.clone().plan(NOW), "Filtered, remember nothing");
    let joined = Case { pipelines: &["api", "new"], ..row };
    assert_eq!(joined.clone().plan(NOW), "read the paths since true");
    let expected =
        format!("order 2 with {} to [new], 0 duplicates, 0 superseded, 0 notes, covers [api new]", epoch_millis(NOW));
    assert_eq!(joined.touching("README.md").new_targets().plan(NOW), expected);
}

#[test]
fn a_branch_that_came_back_at_an_untouched_head_keeps_its_row() {
    let untouched = Some(Untouched { commit: commit(2), paths: digest() });
    let row = BranchRow { untouched, ..relayed() }.expiring(NOW);
    let hint = hint("refs/heads/main");
    let routes = routes(&["api"]);
    let mut facts = Facts::new(&routes, &hint, Trigger::Reconcile, Some(Snapshot { row, revision: Some(3) }));
    facts.head = Some(Head::At(commit(2)));
    let Ok(Plan::Decide(verdict)) = plan(&facts, NOW) else { panic!() };
    let remembered = verdict.remember.unwrap();
    assert_eq!((remembered.expires, remembered.untouched.is_some()), (None, true));
}

#[test]
fn an_event_about_a_recorded_head_is_relayed_once() {
    let recorded = || Case::row(BranchRow::recorded(commit(1), 7, vec![id("api")])).at(1);
    let reconcile = Case { trigger: Trigger::Reconcile, ..recorded() };
    assert_eq!(reconcile.plan(NOW), "Duplicate, remember nothing");
    assert_eq!(recorded().plan(NOW), "read the paths since false");
    let expected =
        format!("order 1 with {} to [api], 0 duplicates, 0 superseded, 0 notes, covers [api]", epoch_millis(NOW));
    assert_eq!(recorded().touching("api/x").new_targets().plan(NOW), expected);
}

#[test]
fn a_pending_change_is_continued_if_it_is_the_head() {
    let has = Some(("api", TargetRow::default().placed(&change(2, 8), Sources::unrouted(), NOW)));
    let newer = Some(("api", TargetRow::default().placed(&change(3, 9), Sources::unrouted(), NOW)));
    let at_head = |row: &BranchRow| Case::row(pending(row)).at(2).new_targets();
    let order = |to: &str, duplicates, superseded| {
        format!("order 2 with 8 to [{to}], {duplicates} duplicates, {superseded} superseded, 0 notes, covers [api]")
    };
    assert_plans(
        [
            (at_head(&relayed()), order("api", 0, 0)),
            (at_head(&earlier()), order("api", 0, 0)),
            (Case { target: has, ..at_head(&relayed()) }, order("", 1, 0)),
            (Case { target: newer, ..at_head(&relayed()) }, order("", 0, 1)),
            (Case { head: Some(Head::NoRef), ..at_head(&relayed()) }, order("api", 0, 0)),
        ],
        NOW + Duration::minutes(1),
    );
}

#[test]
fn a_pending_change_gives_way_to_a_newer_head_and_its_targets_get_that_head() {
    let clock = epoch_millis(NOW);
    let case = Case::row(pending(&relayed())).at(3).touching("README.md").new_targets();
    let expected = format!("order 3 with {clock} to [api], 0 duplicates, 0 superseded, 0 notes, covers [api]");
    assert_eq!(case.plan(NOW), expected);
}

#[test]
fn a_pending_change_whose_route_was_corrected_goes_to_the_new_target() {
    let corrected = |row: &BranchRow| Case { pipelines: &["fixed"], ..Case::row(pending(row)).at(2).new_targets() };
    let expected = "order 2 with 8 to [fixed], 0 duplicates, 0 superseded, 1 notes, covers [fixed]";
    assert_eq!(corrected(&relayed()).plan(NOW), expected);
    assert_eq!(corrected(&earlier()).plan(NOW), expected);
}

/// A pending change must not come back months later, together with its route.
#[test]
fn a_pending_change_without_a_route_is_dropped() {
    let unrouted =
        Case { source_ref: "refs/heads/other", trigger: Trigger::Reconcile, ..Case::row(pending(&relayed())) };
    assert_eq!(unrouted.plan(NOW), "Filtered, remember pending false, untouched false, 0 targets");
    let deleted = Case { head: Some(Head::NoRef), ..Case::row(pending(&relayed())) };
    let expected = "Ignored, remember pending false, untouched false, 0 targets";
    assert_eq!(deleted.plan(NOW + Duration::days(2)), expected);
}

#[test]
fn an_event_of_a_tag_that_an_earlier_version_relayed_is_a_duplicate() {
    let row = BranchRow { events: vec!["event".to_owned()], ..earlier() };
    let tag = |row: BranchRow| Case { source_ref: "refs/tags/v1", ..Case::row(row).at(2) };
    assert_eq!(tag(row).plan(NOW), "Duplicate, remember pending false, untouched false, 1 targets");
    assert_eq!(tag(earlier()).plan(NOW), "read the paths since true");
}

/// The plan for a tag of an image.
fn image_plan(row: BranchRow, head: Head, is_gone: Option<bool>, now: OffsetDateTime) -> String {
    let config = CONFIG.replace("repository =", "image =").replace("branches = [\"main\"]", "");
    let routes = Document::parse("t", &config.replace("paths = [\"api/**\"]", "")).unwrap().routes().unwrap();
    let hint = Hint { repository: image_repository(), ..hint("refs/images/v1") };
    let revision = (row != BranchRow::default()).then_some(3);
    let facts = Facts { head: Some(head), is_gone, ..Facts::new(&routes, &hint, Trigger::Event, None) };
    summary(plan(&Facts { row: Some(Snapshot { row, revision }), ..facts }, now))
}

fn image_repository() -> RepositoryArn {
    "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop".parse().unwrap()
}

#[test]
fn a_tag_without_a_container_image_leaves_no_row() {
    let signature = Head::Unroutable("a signature".to_owned());
    assert_eq!(image_plan(BranchRow::default(), signature.clone(), None, NOW), "Ignored, remember nothing");
    assert_eq!(image_plan(relayed(), signature, None, NOW), "Ignored, remember nothing");
    // A new tag needs no lower bound for its sequence: the receivers of images compare only the numbers of orders.
    let digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let expected = "read the rows of 1 targets and 1 trains";
    assert_eq!(image_plan(BranchRow::default(), Head::At(digest), None, NOW), expected);
}

#[test]
fn a_pending_image_is_continued_only_as_long_as_it_exists() {
    let digest: Revision = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let row = BranchRow { commit: Some(digest), sequence: 8, ..BranchRow::default() };
    let change = row.change(&image_repository(), &"refs/images/v1".parse().unwrap()).unwrap();
    let pending = || BranchRow::default().with_pending(change.clone(), deliveries(&[id("api")]), vec![], NOW);
    let dropped = "remember pending false, untouched false, 0 targets";
    for head in [Head::NoRef, Head::Unroutable("a signature".to_owned())] {
        let plan = |is_gone, now| image_plan(pending(), head.clone(), is_gone, now);
        assert_eq!(plan(None, NOW), "read the image");
        assert_eq!(plan(Some(true), NOW), format!("Failed, {dropped}"));
        assert_eq!(plan(Some(false), NOW), "read the rows of 1 targets and 1 trains");
        assert_eq!(plan(None, NOW + Duration::days(2)), format!("Ignored, {dropped}"));
    }
}

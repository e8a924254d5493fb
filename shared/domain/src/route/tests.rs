use super::*;
use crate::config::Document;

const TARGET: &str = "[[route.target]]\naccount=\"222222222222\"\nregion=\"ap-northeast-1\"\npipeline=\"p\"\n\
                      action=\"Source\"\n";

fn routes(head: &str) -> Routes {
    Document::parse("sekisho.toml", &format!("[[route]]\n{head}\n{TARGET}")).unwrap().routes().unwrap()
}

fn repository(name: &str, region: &str) -> RepositoryArn {
    format!("arn:aws:codecommit:{region}:111111111111:{name}").parse().unwrap()
}

fn concerns(head: &str, name: &str, full_ref: &str) -> bool {
    let repository = repository(name, "ap-northeast-1");
    routes(head).concerning(&repository, &full_ref.parse().unwrap()).next().is_some()
}

#[test]
fn single_stars_do_not_match_slashes() {
    let head = "repository = \"shop-*\"\nbranches = [\"main\", \"release/*\", \"team/**\"]";
    assert!(concerns(head, "shop-api", "refs/heads/main"));
    assert!(concerns(head, "shop-api", "refs/heads/release/1"));
    assert!(!concerns(head, "shop-api", "refs/heads/release/1/hotfix"));
    assert!(concerns(head, "shop-api", "refs/heads/team/a/b"));
    assert!(!concerns(head, "shop", "refs/heads/main"));
    assert!(!concerns(head, "shop-api", "refs/heads/Main"));
    assert!(!concerns(head, "shop-api", "refs/heads/main2"));
}

#[test]
fn branch_globs_never_match_tags() {
    assert!(!concerns("repository = \"shop\"\nbranches = [\"**\"]", "shop", "refs/tags/v1"));
    assert!(!concerns("repository = \"shop\"\ntags = [\"**\"]", "shop", "refs/heads/v1"));
    assert!(concerns("repository = \"shop\"\ntags = [\"v*\"]", "shop", "refs/tags/v1"));
}

#[test]
fn a_route_is_for_images_or_for_git() {
    let shop: RepositoryArn = "arn:aws:ecr:ap-northeast-1:111111111111:repository/team/shop".parse().unwrap();
    let concerns_image = |head: &str, tag: &str| {
        let tag = SourceRef::new(RefKind::Image, tag).unwrap();
        routes(head).concerning(&shop, &tag).next().is_some()
    };
    assert!(concerns_image("image = \"team/*\"\ntags = [\"v*\", \"!v0*\"]", "v1"));
    assert!(!concerns_image("image = \"team/*\"\ntags = [\"v*\", \"!v0*\"]", "v0"));
    assert!(!concerns_image("image = \"*\"\ntags = [\"**\"]", "v1"));
    assert!(!concerns_image("repository = \"**\"\ntags = [\"**\"]", "v1"));
    assert!(!concerns("image = \"shop\"\ntags = [\"**\"]", "shop", "refs/tags/v1"));

    let route = &routes("image = \"shop\"\ntags = [\"v1\", \"v*\"]")[0];
    assert_eq!((route.name(), route.source()), ("shop", SourceKind::Image));
    let existing = |tag: &str| route.coverage(&tag.parse().unwrap()).map(|one| one.existing);
    assert_eq!(existing("refs/images/v1"), Some(Existing::Relay));
    assert_eq!(existing("refs/images/v2"), Some(Existing::Baseline));
    assert_eq!(existing("refs/tags/v1"), None);
}

#[test]
fn a_cache_of_another_registry_is_routed_only_by_its_literal_name() {
    let arn = |name: &str| format!("arn:aws:ecr:ap-northeast-1:111111111111:repository/{name}").parse().unwrap();
    let covers = |image: &str, name: &str, prefixes: &[&str]| {
        let all = routes(&format!("image = \"{image}\"\ntags = [\"**\"]"));
        let prefixes = prefixes.iter().map(ToString::to_string).collect();
        let without = all.without_caches(&prefixes);
        assert!(all[0].covers_repository(&arn(name)));
        without[0].covers_repository(&arn(name))
    };
    assert!(!covers("**", "hub/library/nginx", &["quay", "hub"]));
    assert!(covers("hub/library/nginx", "hub/library/nginx", &["hub"]));
    assert!(covers("**", "hubble/api", &["hub"]) && covers("**", "hub", &["hub"]));
    assert!(covers("**", "shop", &[]) && !covers("**", "shop", &["ROOT"]) && covers("shop", "shop", &["ROOT"]));
}

#[test]
fn a_mistake_in_a_route_for_images_is_named() {
    for (head, key, text) in [
        ("image = \"shop\"", "route[0]", "`tags = "),
        ("image = \"shop\"\ntags = [\"v*\"]\nrepository = \"shop\"", "route[0]", "both `repository` and `image`"),
        ("tags = [\"v*\"]", "route[0]", "`image`"),
        ("image = \"shop\"\nbranches = [\"main\"]", "route[0].branches", "`tags`"),
        ("image = \"shop\"\ntags = [\"v*\"]\npaths = [\"api/**\"]", "route[0].paths", "remove the key"),
        ("image = \"Shop\"\ntags = [\"v*\"]", "route[0].image", "write `shop`"),
        ("image = \"shop\"\ntags = [\"a/b\"]", "route[0].tags[0]", "can never match"),
    ] {
        let text_of_file = format!("[[route]]\n{head}\n{TARGET}");
        let mistake = Document::parse("t", &text_of_file).unwrap().routes().unwrap_err();
        assert_eq!(mistake.key, key, "{mistake}");
        assert!(mistake.reason.contains(text), "{mistake} should contain {text}");
    }
}

#[test]
fn the_last_matching_path_glob_decides() {
    let all = routes("repository = \"s\"\nbranches = [\"m\"]\npaths = [\"api/**\", \"!**/*.md\", \"api/docs/**\"]");
    let route = &all[0];
    assert!(route.touched_by(["api/main.rs"]));
    assert!(!route.touched_by(["api/README.md", "README.md"]));
    assert!(route.touched_by(["README.md", "api/docs/README.md"]));
    assert!(!route.touched_by(["web/index.html"]));
    assert!(!route.touched_by([]));
    assert!(!routes("repository = \"s\"\nbranches = [\"m\"]")[0].looks_at_paths());
}

#[test]
fn only_a_plain_name_is_a_literal() {
    let all = routes("repository = \"shop\"\nbranches = [\"main\", \"!old\", \"old\", \"release/*\", \"!old\"]");
    assert_eq!(all[0].repository().literal(), Some("shop"));
    assert_eq!(all[0].literal_names(RefKind::Branch).collect::<Vec<_>>(), ["main"]);
    assert_eq!(all[0].literal_names(RefKind::Tag).count(), 0);
}

/// The routes of a text, or the key and the reason of the first mistake.
fn parse(text: &str) -> Result<Routes, (String, String)> {
    let document = Document::parse("sekisho.toml", text).unwrap();
    document.routes().map_err(|error| (error.key, error.reason))
}

/// A target of the pipeline `p`, with these other keys.
fn target(keys: &str) -> String {
    format!("[[route.target]]\n{keys}\npipeline = \"p\"\naction = \"Source\"\n")
}

fn route(keys: &str, target: &str) -> String {
    format!("[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n{keys}\n{target}\n")
}

#[test]
fn a_route_with_a_region_takes_only_the_repositories_of_that_region() {
    let all = routes("repository = \"shop\"\nbranches = [\"main\"]\nregion = \"us-east-1\"");
    let main = "refs/heads/main".parse().unwrap();
    assert_eq!(all.concerning(&repository("shop", "us-east-1"), &main).count(), 1);
    assert_eq!(all.concerning(&repository("shop", "ap-northeast-1"), &main).count(), 0);
    assert_eq!(all[0].region().map(Region::as_str), Some("us-east-1"));
    assert!(all[0].covers_repository(&repository("shop", "us-east-1")));
}

#[test]
fn the_last_matching_glob_of_a_reference_decides() {
    let head = "repository = \"shop\"\nbranches = [\"**\", \"!wip/**\", \"wip/keep\"]\ntags = [\"v*\", \"!*-rc*\"]";
    assert!(concerns(head, "shop", "refs/heads/feature/1"));
    assert!(!concerns(head, "shop", "refs/heads/wip/1"));
    assert!(concerns(head, "shop", "refs/heads/wip/keep"));
    assert!(concerns(head, "shop", "refs/tags/v1"));
    assert!(!concerns(head, "shop", "refs/tags/v1-rc1"));
}

#[test]
fn a_literal_name_is_relayed_and_a_glob_is_a_baseline_by_default() {
    let all = routes("repository = \"shop\"\nbranches = [\"main\", \"*\"]\ntags = [\"v*\"]");
    let coverage = |full_ref: &str| all[0].coverage(&full_ref.parse().unwrap());
    let main = coverage("refs/heads/main").unwrap();
    assert_eq!((main.glob, main.is_literal, main.explicit), ("refs/heads/main", true, false));
    assert_eq!(main.existing, Existing::Relay);
    let next = coverage("refs/heads/next").unwrap();
    assert_eq!((next.glob, next.is_literal, next.existing), ("refs/heads/*", false, Existing::Baseline));
    assert_eq!(coverage("refs/tags/v1").unwrap().glob, "refs/tags/v*");
    assert_eq!(coverage("refs/tags/w1"), None);
    assert_eq!(all[0].including(RefKind::Branch).collect::<Vec<_>>(), ["refs/heads/main", "refs/heads/*"]);
    for (written, expected) in [("relay", Existing::Relay), ("baseline", Existing::Baseline)] {
        let head = format!("repository = \"shop\"\nbranches = [\"main\", \"*\"]\nexisting = \"{written}\"");
        let all = routes(&head);
        for full_ref in ["refs/heads/main", "refs/heads/next"] {
            let coverage = all[0].coverage(&full_ref.parse().unwrap()).unwrap();
            assert_eq!((coverage.existing, coverage.explicit), (expected, true));
        }
        assert_eq!(all[0].existing(), Some(expected));
    }
}

#[test]
fn each_combination_of_the_lists_is_a_target() {
    let lists = "accounts = [\"333333333333\", \"222222222222\"]\nregions = [\"us-east-1\", \"ap-northeast-1\"]";
    let all = parse(&route("name = \"shop.1\"", &target(lists))).unwrap();
    let ids: Vec<String> = all[0].targets().iter().map(|target| target.id().to_string()).collect();
    let expected = [
        "333333333333/us-east-1/p",
        "333333333333/ap-northeast-1/p",
        "222222222222/us-east-1/p",
        "222222222222/ap-northeast-1/p",
    ];
    assert_eq!(ids, expected);
    assert_eq!(all.target_ids().len(), 4);
    assert_eq!(all[0].name(), "shop.1");
    let mixed = parse(&route("", &target("account = \"333333333333\"\nregions = [\"us-east-1\"]"))).unwrap();
    assert_eq!((mixed.target_ids().len(), mixed[0].name()), (1, "shop"));
}

#[test]
fn a_target_that_is_repeated_without_lists_stays_valid() {
    let all = parse(&route("", &TARGET.repeat(2))).unwrap();
    assert_eq!(all.target_ids().len(), 1);
}

#[test]
fn the_variables_of_all_routes_to_a_target_are_merged() {
    let with = |variables: &str| TARGET.to_owned() + "variables = { " + variables + " }\n";
    let text =
        route("", &with("TAG = \"{tag}\", A = \"1\"")) + &route("", TARGET) + &route("", &with("B = \"2\", A = \"1\""));
    let all = parse(&text).unwrap();
    for route in all.iter() {
        let variables = &route.targets()[0].variables;
        assert_eq!(variables.keys().collect::<Vec<_>>(), ["A", "B", "TAG"]);
        assert_eq!(variables["TAG"], "{tag}");
    }
    let contradicting = route("", &with("TAG = \"{tag}\"")) + &route("", &with("TAG = \"{commit}\""));
    let (key, reason) = parse(&contradicting).unwrap_err();
    assert_eq!(key, "route[1].target[0].variables.TAG");
    assert!(reason.contains("{tag}") && reason.contains("route[0].target[0].variables.TAG"), "{reason}");
}

/// Each case is a configuration with one mistake, the key that the error names, and a part of the reason.
#[test]
fn a_mistake_in_a_new_key_is_named() {
    let place = "region = \"us-east-1\"";
    let named = |name: &str| route(&format!("name = \"{name}\""), TARGET);
    let of_region = |region: &str| route(&format!("region = \"{region}\""), TARGET);
    let listed = |accounts: &str| route("", &target(&format!("{accounts}\n{place}")));
    let with = |variables: &str| route("", &(TARGET.to_owned() + "variables = " + variables));
    let globs = |keys: &str| format!("[[route]]\nrepository = \"shop\"\n{keys}\n{TARGET}");
    let list_and_one =
        listed("accounts = [\"333333333333\"]") + &target(&format!("account = \"333333333333\"\n{place}"));
    let cases = [
        (named("shop api"), "route[0].name", "letters"),
        (named(""), "route[0].name", "letters"),
        (named(&"a".repeat(65)), "route[0].name", "64"),
        (named("a") + &named("a"), "route[1].name", "route[0]"),
        (of_region("tokyo"), "route[0].region", "ap-northeast-1"),
        (of_region("us-east-1") + &of_region("us-west-2"), "route[1].region", "222222222222/ap-northeast-1/p"),
        (of_region("us-east-1") + &route("", TARGET), "route[1].region", "missing"),
        (route("", TARGET) + &of_region("us-east-1"), "route[0].region", "missing"),
        (route("existing = \"ignore\"", TARGET), "route[0].existing", "baseline"),
        (route("wave = []", TARGET), "route[0]", "both"),
        (globs("branches = [\"!wip/**\"]\ntags = [\"v*\"]"), "route[0].branches", "exclusions"),
        (globs("branches = [\"**\", \"!refs/heads/wip\"]"), "route[0].branches[1]", "write `!wip`"),
        (globs("tags = [\"!v*\"]"), "route[0].tags", "exclusions"),
        (globs("branches = [\"main\"]\npaths = [\"./api/**\"]"), "route[0].paths[0]", "write `api/**`"),
        (listed(""), "route[0].target[0]", "missing field `account`"),
        (listed("account = \"222222222222\"\naccounts = [\"333333333333\"]"), "route[0].target[0]", "keep one"),
        (listed("accounts = []"), "route[0].target[0].accounts", "empty"),
        (listed("accounts = [\"1\"]"), "route[0].target[0].accounts[0]", "12 digits"),
        (listed("accounts = [\"333333333333\", \"333333333333\"]"), "route[0].target[0].accounts[1]", "remove it"),
        (list_and_one, "route[0].target[1]", "another target of this route"),
        (with("{ \"a b\" = \"x\" }"), "route[0].target[0].variables.a b", "128"),
        (with("{ TAG = \"\" }"), "route[0].target[0].variables.TAG", "empty"),
        (with("{ TAG = \"{Tag}\" }"), "route[0].target[0].variables.TAG", "placeholder"),
        (with("{ TAG = 1 }"), "route[0].target[0].variables.TAG", "string"),
    ];
    for (text, key, part) in cases {
        let (at, reason) = parse(&text).expect_err(key);
        assert_eq!(at, key, "{reason}");
        assert!(reason.contains(part), "{reason} should contain {part}");
    }
}

#[test]
fn a_target_has_at_most_fifty_variables() {
    let with = |first: usize, count: usize| {
        let variables: Vec<String> = (first..first + count).map(|n| format!("V{n} = \"x\"")).collect();
        route("", &format!("{TARGET}variables = {{ {} }}", variables.join(", ")))
    };
    assert!(parse(&(with(0, 25) + &with(25, 25))).is_ok());
    assert_eq!(parse(&(with(0, 25) + &with(25, 26))).unwrap_err().0, "route[1].target[0].variables");
}

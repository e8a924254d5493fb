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

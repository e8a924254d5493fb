use proptest::prelude::*;

use super::*;

/// The message about a glob, or `None` if it is accepted.
fn refusal(pattern: &str, kind: NameKind) -> Option<String> {
    Glob::parse(pattern, kind).err()
}

#[test]
fn a_glob_that_can_never_match_is_refused_with_the_spelling_that_works() {
    use NameKind::{Branch, ImageRepository, ImageTag, Path, Repository, Tag};
    let cases = [
        (Path, "./api/**", "`api/**`"),
        (Path, "/api/**", "`api/**`"),
        (Path, "//api//**", "`api/**`"),
        (Path, "././api/**", "`api/**`"),
        (Path, "api/./main.rs", "`api/main.rs`"),
        (Path, "api/", "`api/**`"),
        (Path, "/", "`**`"),
        (Path, ".", "`**`"),
        (Path, "{./api/**,/web/**}", "`{api/**,web/**}`"),
        (Path, "api/**/", "`api/**/**`"),
        (Branch, "refs/heads/main", "`main`"),
        (Branch, "refs/heads/release/*", "`release/*`"),
        (Branch, "refs/tags/v1", "`tags = [\"v1\"]`"),
        (Branch, "^main$", "`main`"),
        (Branch, "^refs/heads/main$", "`main`"),
        (Branch, "^release/.*$", "`release/*`"),
        (Branch, ".*", "`**`"),
        (Branch, "release/.*", "`release/*`"),
        (Branch, " main", "`main`"),
        (Branch, "/main", "`main`"),
        (Branch, "release/", "`release/**`"),
        (Tag, "refs/tags/v*", "`v*`"),
        (Tag, "refs/heads/main", "`branches = [\"main\"]`"),
        (Tag, "^v[0-9]*$", "`v[0-9]*`"),
        (Repository, "arn:aws:codecommit:ap-northeast-1:111111111111:shop", "`shop`"),
        (Repository, "https://git-codecommit.ap-northeast-1.amazonaws.com/v1/repos/shop", "`shop`"),
        (Repository, "shop.git", "`shop`"),
        (Repository, "^shop-*$", "`shop-*`"),
        (Repository, "team/shop", "`shop`"),
        (Repository, "./shop/", "`shop`"),
        (ImageRepository, "arn:aws:ecr:ap-northeast-1:111111111111:repository/team/shop", "`team/shop`"),
        (ImageRepository, "111111111111.dkr.ecr.ap-northeast-1.amazonaws.com/team/shop:v1", "`team/shop`"),
        (ImageRepository, "shop:latest", "`shop`"),
        (ImageRepository, "shop@sha256:ab", "`shop`"),
        (ImageRepository, "Team/Shop", "`team/shop`"),
        (ImageRepository, "/team/", "`team`"),
        (ImageTag, "refs/images/v1", "`v1`"),
        (ImageTag, "refs/tags/v*", "`v*`"),
        (ImageTag, "^v[0-9]*$", "`v[0-9]*`"),
        (ImageTag, ".*", "`**`"),
    ];
    for (kind, pattern, spelling) in cases {
        let message = refusal(pattern, kind).unwrap_or_else(|| panic!("{kind:?} {pattern} was accepted"));
        assert!(message.starts_with(&format!("`{pattern}` can never match")), "{message}");
        assert!(message.ends_with(&format!("write {spelling}")), "{message} should end with {spelling}");
    }
}

#[test]
fn a_refusal_without_a_certain_spelling_says_why() {
    use NameKind::{Branch, ImageRepository, ImageTag, Path, Repository};
    for (kind, pattern) in [
        (Path, "../web/**"),
        (Path, "api/../web"),
        (Branch, "feature: x"),
        (Branch, "main..next"),
        (Branch, "{/a,b/}"),
        (Repository, "!shop"),
        (Repository, "{a:b,c d}"),
        (ImageRepository, "team//shop"),
        (ImageTag, "feature/x"),
        (ImageTag, "-v1"),
        (ImageTag, &"a".repeat(129)),
    ] {
        assert!(refusal(pattern, kind).unwrap().contains("can never match, because"), "{pattern}");
    }
}

#[test]
fn a_glob_that_may_match_is_accepted() {
    use NameKind::{Branch, ImageRepository, ImageTag, Path, Repository, Tag};
    let cases = [
        (ImageRepository, "team/*"),
        (ImageRepository, "**"),
        (ImageTag, "**"),
        (ImageTag, "v[0-9]*.[0-9]*"),
        (ImageTag, "_x"),
        (Path, "^api$"),
        (Path, "api/**"),
        (Path, "**/api/*.rs"),
        (Path, ".github/**"),
        (Path, "..a/.b/c..d"),
        (Path, "{./api/**,web/**}"),
        (Path, "x{**/,y/}"),
        (Path, "[/]api"),
        (Path, "a b/c: d"),
        (Branch, "main$"),
        (Branch, "heads/main"),
        (Branch, "**"),
        (Branch, "a.b/c"),
        (Branch, "[!/]*"),
        (Branch, "{main,refs/heads/main}"),
        (Branch, r"\!main"),
        (Tag, "v[0-9]*.[0-9]*"),
        (Tag, "v{1,2}.*"),
        (Repository, "shop-{api,web}"),
        (Repository, "**/shop"),
        (Repository, "shop?"),
        (Repository, "*"),
    ];
    for (kind, pattern) in cases {
        assert_eq!(refusal(pattern, kind), None, "{kind:?} {pattern}");
    }
}

/// The rules of git and CodeCommit, written independently of the code under test.
fn may_be_a_name(name: &str, kind: NameKind) -> bool {
    let slashes = !name.is_empty() && name.split('/').all(|part| !part.is_empty());
    match kind {
        NameKind::Alarm => !name.is_empty(),
        NameKind::ImageRepository => slashes && name.bytes().all(|b| b.is_ascii_lowercase() || b".-_/".contains(&b)),
        NameKind::ImageTag => {
            !name.is_empty()
                && !name.starts_with(['.', '-'])
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        }
        NameKind::Repository => name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)),
        NameKind::Path => slashes && name.split('/').all(|part| part != "." && part != ".."),
        NameKind::Branch | NameKind::Tag => {
            slashes
                && !name.contains("..")
                && name.split('/').all(|part| !part.starts_with('.'))
                && !name.contains([' ', '^', ':', '~', '*', '?', '[', '\\'])
                && !name.starts_with("refs/")
        }
    }
}

fn kinds() -> impl Strategy<Value = NameKind> {
    use NameKind::{Alarm, Branch, ImageRepository, ImageTag, Path, Repository, Tag};
    let of_git = prop_oneof![Just(Repository), Just(Branch), Just(Tag), Just(Path)];
    prop_oneof![4 => of_git, 1 => Just(Alarm), 2 => prop_oneof![Just(ImageRepository), Just(ImageTag)]]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Short texts of few characters, so that many of the globs match a name.
    #[test]
    fn a_glob_that_matches_a_possible_name_is_accepted(
        pattern in r"([a./*]|\*\*/|/\*\*|\{|\}|,|\?|\[a\]|\\/| |\^){1,8}",
        names in proptest::collection::vec("[a./]{1,5}", 40),
        kind in kinds(),
    ) {
        let Ok(glob) = Glob::new(&pattern, kind) else { return Ok(()) };
        let matched = names.iter().find(|name| may_be_a_name(name, kind) && glob.matches(name));
        if let Some(name) = matched {
            prop_assert_eq!(refusal(&pattern, kind), None, "{} matches {}", pattern, name);
        }
    }

    #[test]
    fn a_suggested_spelling_is_accepted(
        pattern in r"(refs/heads/|refs/tags/|[a./*^$ :]|\*\*|\{|\}|,){1,8}",
        kind in kinds(),
    ) {
        if let Some((kind, better)) = spelling(&pattern, kind) {
            prop_assert_eq!(refusal(&better, kind), None, "{}", better);
        }
    }
}

//! Globs that can never match, and the spelling that works.
//!
//! A glob is refused only if no name can match: a glob with alternatives is refused only if every alternative is wrong.

use super::glob::Glob;
use crate::change::RefKind;

/// What a glob matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// The name of a CodeCommit repository.
    Repository,
    /// The name of an ECR repository.
    ImageRepository,
    /// The name of a branch, without `refs/heads/`.
    Branch,
    /// The name of a tag, without `refs/tags/`.
    Tag,
    /// The tag of an image.
    ImageTag,
    /// A changed path, from the root of the repository.
    Path,
    /// The name of a CloudWatch alarm.
    Alarm,
}

impl NameKind {
    /// What precedes a name of this kind in a full reference.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Branch => RefKind::Branch.prefix(),
            Self::Tag => RefKind::Tag.prefix(),
            Self::ImageTag => RefKind::Image.prefix(),
            Self::Repository | Self::ImageRepository | Self::Path | Self::Alarm => "",
        }
    }

    /// Whether `/` separates the parts of a name. In the name of an alarm it is a character like any other.
    pub(super) fn has_folders(self) -> bool {
        self != Self::Alarm
    }
}

/// The limit of alternatives that are checked. A glob with more alternatives is accepted without a check, because
/// nested braces can have more alternatives than can be counted.
const MOST_ALTERNATIVES: usize = 64;

/// CloudWatch's limit for the name of an alarm, in characters.
const LONGEST_ALARM_NAME: usize = 255;

/// The registry protocol's limit for a tag, in characters.
const LONGEST_IMAGE_TAG: usize = 128;

/// A part of a glob without braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// A character that the name must have.
    Literal(char),
    /// `?` or a class such as `[ab]`.
    Character,
    /// One of the stars of `*` or `**`.
    Star,
}

/// Why no name of this kind can match the pattern. Returns `None` if a name may match.
pub(super) fn never_matches(pattern: &str, kind: NameKind) -> Option<&'static str> {
    let is_ref = matches!(kind, NameKind::Branch | NameKind::Tag | NameKind::ImageTag);
    if is_ref && ["refs/heads/", "refs/tags/", "refs/images/"].iter().any(|prefix| pattern.starts_with(prefix)) {
        return Some("names of branches and tags are written without `refs/heads/`, `refs/tags/` and `refs/images/`");
    }
    // A `**/` at the start of an alternative or before another `**` need not match a `/`, which the tokens do not show.
    if ["{**/", ",**/", "**/**"].iter().any(|start| pattern.contains(start)) {
        return None;
    }
    let mut first = None;
    for alternative in alternatives(&tokens_and_braces(pattern)?)? {
        first = first.or(Some(reason_of(&alternative, kind)?));
    }
    first
}

/// Why no name can match this alternative.
fn reason_of(tokens: &[Token], kind: NameKind) -> Option<&'static str> {
    match kind {
        NameKind::Repository => reason_of_repository(tokens),
        NameKind::ImageRepository => reason_of_image_repository(tokens),
        NameKind::ImageTag => reason_of_image_tag(tokens),
        NameKind::Branch | NameKind::Tag => reason_of_ref(tokens).or_else(|| reason_of_slashes(tokens)),
        NameKind::Path => reason_of_path(tokens).or_else(|| reason_of_slashes(tokens)),
        NameKind::Alarm => reason_of_alarm(tokens),
    }
}

/// The tokens after each `**/` at the start, which also matches no folder at all.
fn below_folders(mut tokens: &[Token]) -> &[Token] {
    while let [Token::Star, Token::Star, Token::Literal('/'), rest @ ..] = tokens {
        tokens = rest;
    }
    tokens
}

fn reason_of_repository(tokens: &[Token]) -> Option<&'static str> {
    let tokens = below_folders(tokens);
    let is_wrong = |token: &Token| match token {
        Token::Literal(c) => !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')),
        Token::Character | Token::Star => false,
    };
    if tokens.is_empty() || tokens.iter().any(is_wrong) {
        return Some("the name of a CodeCommit repository has only letters, digits, `.`, `_` and `-`");
    }
    let git: Vec<Token> = ".git".chars().map(Token::Literal).collect();
    tokens.ends_with(&git).then_some("the name of a CodeCommit repository does not end with `.git`")
}

fn reason_of_image_repository(tokens: &[Token]) -> Option<&'static str> {
    let is_wrong = |token: &Token| match token {
        Token::Literal(c) => !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/')),
        Token::Character | Token::Star => false,
    };
    if tokens.contains(&Token::Literal(':')) {
        return Some("the name of an ECR repository is written without a registry and without a tag");
    }
    if tokens.iter().any(is_wrong) {
        return Some("the name of an ECR repository has only lower-case letters, digits, `.`, `_`, `-` and `/`");
    }
    reason_of_slashes(tokens)
}

fn reason_of_image_tag(tokens: &[Token]) -> Option<&'static str> {
    let tokens = below_folders(tokens);
    let is_wrong = |token: &Token| match token {
        Token::Literal(c) => !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')),
        Token::Character | Token::Star => false,
    };
    if tokens.is_empty() || tokens.iter().any(is_wrong) {
        return Some("the tag of an image has only letters, digits, `.`, `_` and `-`");
    }
    if matches!(tokens.first(), Some(Token::Literal('.' | '-'))) {
        return Some("the tag of an image begins with a letter, a digit or `_`");
    }
    let shortest = tokens.iter().filter(|token| **token != Token::Star).count();
    (shortest > LONGEST_IMAGE_TAG).then_some("the tag of an image has at most 128 characters")
}

fn reason_of_ref(tokens: &[Token]) -> Option<&'static str> {
    let is_forbidden = |token: &Token| match token {
        Token::Literal(c) => matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\') || c.is_control(),
        Token::Character | Token::Star => false,
    };
    if tokens.iter().any(is_forbidden) {
        return Some("git allows no spaces and none of `^ ~ : ? * [ \\` in the name of a branch or tag");
    }
    if tokens.windows(2).any(|pair| pair == [Token::Literal('.'); 2]) {
        return Some("git allows no `..` in the name of a branch or tag");
    }
    components(tokens)
        .any(|component| component.first() == Some(&Token::Literal('.')))
        .then_some("git allows no part that begins with `.` in the name of a branch or tag")
}

fn reason_of_path(tokens: &[Token]) -> Option<&'static str> {
    let dot = Token::Literal('.');
    components(tokens)
        .any(|component| component == [dot] || component == [dot, dot])
        .then_some("a path starts at the root of the repository and has no part `.` or `..`")
}

fn reason_of_alarm(tokens: &[Token]) -> Option<&'static str> {
    let arn: Vec<Token> = "arn:".chars().map(Token::Literal).collect();
    if tokens.starts_with(&arn) {
        return Some("alarms are compared by their names, not by their ARNs");
    }
    if tokens.iter().any(|token| matches!(token, Token::Literal(c) if c.is_ascii_control())) {
        return Some("the name of an alarm has no control characters");
    }
    let shortest = tokens.iter().filter(|token| **token != Token::Star).count();
    (shortest > LONGEST_ALARM_NAME).then_some("the name of an alarm has at most 255 characters")
}

/// The checks of `/` that paths, branches and tags have in common.
fn reason_of_slashes(tokens: &[Token]) -> Option<&'static str> {
    let slash = Token::Literal('/');
    if tokens.is_empty() {
        return Some("it matches only an empty name");
    }
    if tokens.first() == Some(&slash) {
        return Some("no name or path begins with `/`");
    }
    if tokens.last() == Some(&slash) {
        return Some("no name or path ends with `/`, because only whole names and files are compared");
    }
    tokens.windows(2).any(|pair| pair == [slash; 2]).then_some("no name or path has two `/` in a row")
}

fn components(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    tokens.split(|token| *token == Token::Literal('/'))
}

/// A part of a glob: a token, or alternatives in braces.
#[derive(Debug)]
enum Part {
    Token(Token),
    Braces(Vec<Vec<Part>>),
}

/// Why a pattern is not a glob, if the crate that compares globs does not refuse it itself.
pub(super) fn invalid(pattern: &str) -> Option<&'static str> {
    let is_glob = tokens_and_braces(pattern).is_some();
    (!is_glob).then_some("a `}` without a `{`, or a range such as `[z-a]` that ends before it begins")
}

/// Parses a glob. Returns `None` if the pattern is not a glob.
fn tokens_and_braces(pattern: &str) -> Option<Vec<Part>> {
    // Each open brace has its list of alternatives. The first list is the whole pattern.
    let mut open: Vec<Vec<Vec<Part>>> = vec![vec![Vec::new()]];
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let part = match c {
            '{' => {
                open.push(vec![Vec::new()]);
                continue;
            }
            ',' if open.len() > 1 => {
                open.last_mut()?.push(Vec::new());
                continue;
            }
            '}' if open.len() > 1 => Part::Braces(open.pop()?),
            '}' => return None,
            '*' => Part::Token(Token::Star),
            '?' => Part::Token(Token::Character),
            '[' => Part::Token(skip_class(&mut rest)?),
            '\\' => Part::Token(Token::Literal(rest.next()?)),
            c => Part::Token(Token::Literal(c)),
        };
        open.last_mut()?.last_mut()?.push(part);
    }
    let whole = open.pop()?.pop()?;
    open.is_empty().then_some(whole)
}

/// Skips the rest of a class such as `[ab]`, `[!ab]` or `[]a]`. A `]` directly after the start is a character. Returns
/// `None` if the class does not end, or if a range in it ends before it begins.
fn skip_class(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let mut class = Vec::new();
    let mut c = rest.next()?;
    if matches!(c, '!' | '^') {
        c = rest.next()?;
    }
    loop {
        class.push(c);
        c = rest.next()?;
        if c == ']' {
            break;
        }
    }
    let is_reversed = |range: &[char]| matches!(range, [first, '-', last] if first > last);
    (!class.windows(3).any(is_reversed)).then_some(Token::Character)
}

/// The alternatives of a glob, without braces. Returns `None` if there are too many.
fn alternatives(parts: &[Part]) -> Option<Vec<Vec<Token>>> {
    let mut found: Vec<Vec<Token>> = vec![Vec::new()];
    for part in parts {
        match part {
            Part::Token(token) => found.iter_mut().for_each(|alternative| alternative.push(*token)),
            Part::Braces(branches) => {
                let mut inner = Vec::new();
                for branch in branches {
                    inner.extend(alternatives(branch)?);
                }
                if found.len() * inner.len() > MOST_ALTERNATIVES {
                    return None;
                }
                found =
                    found.iter().flat_map(|before| inner.iter().map(|after| [&before[..], after].concat())).collect();
            }
        }
    }
    Some(found)
}

/// The message about a glob that can never match. `mark` is the `!` of an exclusion, or empty.
pub(super) fn advise(pattern: &str, kind: NameKind, mark: &str, reason: &str) -> String {
    let instead = match spelling(pattern, kind) {
        Some((list, pattern)) if list != kind => {
            let key = if list == NameKind::Tag { "tags" } else { "branches" };
            format!("write `{key} = [\"{mark}{pattern}\"]`")
        }
        Some((_, pattern)) => format!("write `{mark}{pattern}`"),
        None => "correct it, or remove it".to_owned(),
    };
    format!("`{mark}{pattern}` can never match, because {reason}: {instead}")
}

/// The spelling that works, and the list to which it belongs. Returns `None` if the mistake cannot be corrected with
/// certainty.
fn spelling(pattern: &str, kind: NameKind) -> Option<(NameKind, String)> {
    let (kind, text) = match kind {
        NameKind::Repository => (kind, repository_spelling(pattern)),
        NameKind::ImageRepository => (kind, image_spelling(pattern)),
        NameKind::ImageTag => (kind, image_tag_spelling(pattern)),
        NameKind::Branch | NameKind::Tag => ref_spelling(pattern, kind),
        NameKind::Path => (kind, pattern.to_owned()),
        // In the ARN of an alarm, the name follows the last part that the ARN's own syntax needs.
        NameKind::Alarm => (kind, pattern.split_once(":alarm:").map_or("", |(_, name)| name).to_owned()),
    };
    let has_slashes = matches!(kind, NameKind::Branch | NameKind::Tag | NameKind::Path);
    let text = if has_slashes { without_stray_slashes(text) } else { text };
    let works = !text.is_empty() && Glob::new(&text, kind).is_ok() && never_matches(&text, kind).is_none();
    works.then_some((kind, text))
}

fn repository_spelling(pattern: &str) -> String {
    let text = without_anchors(pattern);
    // The last part of an ARN or of a URL is the name.
    let name = text.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    name.strip_suffix(".git").unwrap_or(name).to_owned()
}

/// The name in an ARN, or in the URI by which an image is pulled: `<registry>/<name>:<tag>`.
fn image_spelling(pattern: &str) -> String {
    let text = without_anchors(pattern);
    let after = |mark: &str| text.split_once(mark).map(|(_, name)| name);
    let name = after(":repository/").or_else(|| after(".amazonaws.com/")).unwrap_or(text);
    let name = name.split([':', '@']).next().unwrap_or_default();
    name.trim_matches('/').to_lowercase()
}

fn image_tag_spelling(pattern: &str) -> String {
    let text = without_anchors(pattern);
    let name = ["refs/images/", "refs/tags/"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    if name == ".*" { "**".to_owned() } else { name.to_owned() }
}

fn ref_spelling(pattern: &str, kind: NameKind) -> (NameKind, String) {
    let text = without_anchors(pattern);
    let (kind, text) = match (text.strip_prefix("refs/heads/"), text.strip_prefix("refs/tags/")) {
        (Some(name), _) => (NameKind::Branch, name),
        (_, Some(name)) => (NameKind::Tag, name),
        _ => (kind, text),
    };
    // `.*` is how a regular expression writes `*`.
    let text = if text == ".*" { "**".to_owned() } else { text.replace("/.*", "/*") };
    (kind, text)
}

/// Removes spaces at both ends, and the `^` and `$` of a regular expression.
fn without_anchors(pattern: &str) -> &str {
    let text = pattern.trim();
    match text.strip_prefix('^') {
        Some(rest) => rest.strip_suffix('$').unwrap_or(rest),
        None => text,
    }
}

/// Removes `./` and `/` from the start and doubled `/`. A `/` at the end becomes `/**`.
fn without_stray_slashes(mut text: String) -> String {
    // Each round makes the text shorter, or is the last one.
    loop {
        let mut next = text.replace("//", "/").replace("/./", "/");
        for start in ["{", ","] {
            next = next.replace(&format!("{start}./"), start).replace(&format!("{start}/"), start);
        }
        let rest = next.strip_prefix("./").or_else(|| next.strip_prefix('/'));
        let next = rest.map_or(next.clone(), ToOwned::to_owned);
        if next == text {
            break;
        }
        text = next;
    }
    match text.as_str() {
        "" | "." => "**".to_owned(),
        folder if folder.ends_with('/') => format!("{folder}**"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;

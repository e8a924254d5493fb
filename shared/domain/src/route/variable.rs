//! The rules for the variables of a pipeline of type V2.

/// The texts in braces that a variable's value may contain. Whoever starts the pipeline replaces them.
pub const PLACEHOLDERS: [&str; 7] = ["tag", "branch", "commit", "digest", "image", "order", "previous"];
/// CodePipeline's limit for the name of a variable, in characters.
const LONGEST_NAME: usize = 128;
/// CodePipeline's limit for the value of a variable, in characters.
const LONGEST_VALUE: usize = 1000;
/// CodePipeline's limit for the variables of one execution.
pub(super) const MOST_VARIABLES: usize = 50;

/// Checks the name and the value of a variable. The error says what to write instead.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    let is_valid_name = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'-' | b'_'));
    if !is_valid_name {
        return Err(format!(
            "not the name of a pipeline variable: write 1 to {LONGEST_NAME} letters, digits, `@`, `-` or `_`"
        ));
    }
    if value.is_empty() {
        return Err("empty, which CodePipeline does not accept: write a value, or remove the variable".to_owned());
    }
    if value.chars().count() > LONGEST_VALUE {
        return Err(format!("longer than {LONGEST_VALUE} characters, CodePipeline's limit: shorten it"));
    }
    check_placeholders(value)
}

fn check_placeholders(value: &str) -> Result<(), String> {
    let mut rest = value;
    while let Some(start) = rest.find(['{', '}']) {
        let after = &rest[start..];
        let known = PLACEHOLDERS.iter().find_map(|name| after.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}'));
        rest = known.ok_or_else(|| {
            let shown = after.split_inclusive('}').next().unwrap_or(after);
            let known: Vec<String> = PLACEHOLDERS.iter().map(|name| format!("{{{name}}}")).collect();
            format!("`{shown}` is not a placeholder: write one of {}, and no other braces", known.join(", "))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_those_of_codepipeline() {
        for (name, value) in [("TAG", "{tag}"), ("a@b-c_9", "v{tag}-{order}/{commit}"), ("X", "あ")] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
        for name in ["", "a b", "a.b", "タグ", &"a".repeat(129)] {
            assert!(check(name, "x").unwrap_err().contains("128"), "{name}");
        }
        assert!(check("a", "").unwrap_err().starts_with("empty"));
        assert!(check("a", &"x".repeat(1000)).is_ok());
        assert!(check("a", &"x".repeat(1001)).unwrap_err().contains("1000"));
    }

    #[test]
    fn every_brace_belongs_to_a_known_placeholder() {
        for name in PLACEHOLDERS {
            assert_eq!(check("a", &format!("<{{{name}}}>")), Ok(()));
        }
        let cases = [
            ("{Tag}", "`{Tag}`"),
            ("{ tag }", "`{ tag }`"),
            ("{tag", "`{tag`"),
            ("tag}", "`}`"),
            ("{{tag}}", "`{{tag}`"),
        ];
        for (value, shown) in cases {
            let error = check("a", value).unwrap_err();
            assert!(error.starts_with(shown) && error.contains("{tag}, {branch}"), "{error}");
        }
    }
}

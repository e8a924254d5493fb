//! A principal: the kind and the name of an IAM user or role of this account.

use std::fmt;

/// Longest name of a user or role that IAM accepts, in characters.
const LONGEST_NAME: usize = 64;

/// The kind of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IAM user.
    User,
    /// An IAM role.
    Role,
}

impl Kind {
    /// The kind as requests and the ledger's rows write it: `user` or `role`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
        }
    }

    /// The largest size of all inline policies of one principal together, in characters without white space (IAM's
    /// quotas).
    #[must_use]
    pub fn policy_limit(self) -> usize {
        match self {
            Self::User => 2_048,
            Self::Role => 10_240,
        }
    }
}

/// A user or role whose name IAM accepts unchanged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    kind: Kind,
    name: String,
}

impl Principal {
    /// Checks a name and stores it unchanged. Nothing is trimmed, folded or corrected, because a corrected name may be
    /// the name of another user or role.
    ///
    /// # Errors
    /// Returns what is wrong with the name. The text completes a sentence that begins with the field's name.
    pub fn new(kind: Kind, name: &str) -> Result<Self, String> {
        // IAM allows only names that match `[\w+=,.@-]+`, in which `\w` stands for ASCII characters.
        let invalid = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"_+=,.@-".contains(*c));
        let kind_name = kind.as_str();
        if name.is_empty() {
            return Err(format!("is empty: write the name of an IAM {kind_name}"));
        }
        if let Some(invalid) = invalid {
            let why = match invalid {
                '<' if name.starts_with("<@") || name.starts_with("<#") => "type the name, not a mention",
                ':' | '/' => "write the name alone, without ARN or path",
                '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' | '\u{ff02}' => {
                    "type straight quotes, and only around the name"
                }
                c if c.is_whitespace() => "write the name without white space",
                _ => "write only ASCII letters, digits and _+=,.@-",
            };
            return Err(format!("contains {invalid:?}, which IAM names cannot have: {why}"));
        }
        if name.len() > LONGEST_NAME {
            return Err(format!("is longer than {LONGEST_NAME} characters: write the name of an IAM {kind_name}"));
        }
        Ok(Self { kind, name: name.to_owned() })
    }

    /// Whether the principal is a user or a role.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name, without ARN or path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_unchanged_or_refused() {
        for good in ["prd-user", "a", "A.b_c+d=e,f@g-1", &"x".repeat(64)] {
            assert_eq!(Principal::new(Kind::User, good).unwrap().name(), good);
        }
        let cases = [
            ("", "empty"),
            (" prd-user", "white space"),
            ("prd-user\n", "white space"),
            ("prd\u{a0}user", "white space"),
            ("“prd-user”", "straight quotes"),
            ("＂prd-user＂", "straight quotes"),
            ("ｐrd-user", "ASCII"),
            ("prd_üser", "ASCII"),
            ("prd-user*", "ASCII"),
            ("<@U123>", "not a mention"),
            ("<#C1|prd-user>", "not a mention"),
            ("prd\0user", "ASCII"),
            ("/ops/prd-user", "without ARN or path"),
            ("arn:aws:iam::333333333333:user/prd-user", "without ARN or path"),
            (&"x".repeat(65), "longer than 64"),
        ];
        for (bad, expected) in cases {
            let error = Principal::new(Kind::User, bad).unwrap_err();
            assert!(error.contains(expected), "{bad:?}: {error}");
        }
    }
}

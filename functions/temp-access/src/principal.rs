//! Who may be let in: an IAM user or role of this account, by name.

use std::fmt;

/// Longest name of a user or role, in characters.
const LONGEST_NAME: usize = 64;

/// What kind of principal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IAM user.
    User,
    /// An IAM role.
    Role,
}

impl Kind {
    /// As requests and the ledger write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
        }
    }

    /// How many characters all inline policies of one principal may have together, white space aside (IAM's quotas).
    #[must_use]
    pub fn policy_limit(self) -> usize {
        match self {
            Self::User => 2_048,
            Self::Role => 10_240,
        }
    }
}

/// A user or role whose name IAM would accept as it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    kind: Kind,
    name: String,
}

impl Principal {
    /// Takes the name as it is: nothing is trimmed, folded or mended, since what is mended may be somebody else.
    ///
    /// # Errors
    /// What is wrong with the name, as the rest of a sentence that begins with the field.
    pub fn new(kind: Kind, name: &str) -> Result<Self, String> {
        // IAM's `[\w+=,.@-]+`, in which `\w` is ASCII.
        let stranger = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"_+=,.@-".contains(*c));
        let kind_name = kind.as_str();
        if name.is_empty() {
            return Err(format!("is empty: write the name of an IAM {kind_name}"));
        }
        if let Some(stranger) = stranger {
            let why = match stranger {
                ':' | '/' => "write the name alone, without ARN or path",
                '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' | '\u{ff02}' => {
                    "type straight quotes, and only around the name"
                }
                c if c.is_whitespace() => "write the name without white space",
                _ => "IAM names have only letters, digits and _+=,.@- in ASCII",
            };
            return Err(format!("has a character that no IAM name has, {stranger:?}: {why}"));
        }
        if name.len() > LONGEST_NAME {
            return Err(format!("is longer than {LONGEST_NAME} characters: no IAM {kind_name} has such a name"));
        }
        Ok(Self { kind, name: name.to_owned() })
    }

    /// User or role.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name alone.
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
    fn a_name_is_taken_as_it_is_or_not_at_all() {
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
            ("prd\0user", "ASCII"),
            ("/ops/prd-user", "without ARN or path"),
            ("arn:aws:iam::333333333333:user/prd-user", "without ARN or path"),
            (&"x".repeat(65), "longer than 64"),
        ];
        for (bad, says) in cases {
            let error = Principal::new(Kind::User, bad).unwrap_err();
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }
}

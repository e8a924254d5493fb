//! A principal: an IAM user or role of this account, or a person of Identity Center.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use sekisho_domain::access::{LONGEST_ADDRESS, is_of_address};

/// Longest name of a user or role that IAM accepts, in characters.
const LONGEST_NAME: usize = 64;
/// The kind of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IAM user.
    User,
    /// An IAM role.
    Role,
    /// A user of Identity Center.
    Person,
}

impl Kind {
    /// The kind as requests and the ledger's rows write it: `user`, `role` or `person`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
            Self::Person => "person",
        }
    }

    /// The largest size of all inline policies of one principal together, in characters without white space (IAM's
    /// quotas). All people of Identity Center share one managed policy.
    #[must_use]
    pub fn policy_limit(self) -> usize {
        match self {
            Self::User => 2_048,
            Self::Role => 10_240,
            Self::Person => 6_144,
        }
    }
}

/// A user or role whose name IAM accepts unchanged, or a person.
#[derive(Debug, Clone)]
pub struct Principal {
    kind: Kind,
    name: String,
    /// The user id of a person, as soon as it is known.
    id: Option<String>,
}

// The id decides who a person is, because an address may lead to another user later.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Principal {}

impl PartialOrd for Principal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Principal {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.kind, self.key()).cmp(&(other.kind, other.key()))
    }
}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.key()).hash(state);
    }
}

impl Principal {
    /// Checks a name and stores it unchanged. Nothing is trimmed, folded or corrected, because a corrected name may be
    /// the name of another user or role.
    ///
    /// # Errors
    /// Returns what is wrong with the name. The text completes a sentence that begins with the field's name.
    pub fn new(kind: Kind, name: &str) -> Result<Self, String> {
        if kind == Kind::Person {
            return Self::of_address(name);
        }
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
        Ok(Self { kind, name: name.to_owned(), id: None })
    }

    fn of_address(address: &str) -> Result<Self, String> {
        const FIX: &str = "write the e-mail address of a user of Identity Center, such as hana@example.com";
        let invalid = address.chars().find(|c| !is_of_address(*c));
        match (address.chars().count(), invalid) {
            (0, _) => Err(format!("is empty: {FIX}")),
            (1..=LONGEST_ADDRESS, None) => Ok(Self { kind: Kind::Person, name: address.to_owned(), id: None }),
            (_, Some(invalid)) => Err(format!("contains {invalid:?}, which addresses cannot have: {FIX}")),
            _ => Err(format!("is longer than {LONGEST_ADDRESS} characters: {FIX}")),
        }
    }

    /// A person whose user id is known. `address` is what people call the person.
    #[must_use]
    pub fn person(id: &str, address: Option<&str>) -> Self {
        Self { kind: Kind::Person, name: address.unwrap_or(id).to_owned(), id: Some(id.to_owned()) }
    }

    /// What identifies the principal: the user id of a person, and otherwise the name.
    #[must_use]
    pub fn key(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }

    /// Whether the principal is a user, a role or a person.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name, without ARN or path. For a person, it is the e-mail address.
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
    fn an_address_is_taken_unchanged_or_refused() {
        for good in ["hana@example.com", "Hana.Sato+ops@example.co.jp", "o'brien@example.com", "hana", "花@example.com"]
        {
            assert_eq!(Principal::new(Kind::Person, good).unwrap().name(), good);
        }
        let long = "x".repeat(129);
        for (bad, expected) in [("", "empty"), ("hana @x", "' '"), ("<@U1>", "'<'"), ("a/b", "'/'"), (&long, "128")] {
            let error = Principal::new(Kind::Person, bad).unwrap_err();
            assert!(error.contains(expected), "{bad:?}: {error}");
        }
    }

    #[test]
    fn the_user_id_decides_who_a_person_is() {
        let hana = Principal::person("1", Some("hana@example.com"));
        assert_eq!(hana, Principal::person("1", Some("sato@example.com")));
        assert_ne!(hana, Principal::person("2", Some("hana@example.com")));
        assert_eq!((hana.key(), hana.to_string().as_str()), ("1", "person hana@example.com"));
        assert_eq!(Principal::person("1", None).name(), "1");
    }

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

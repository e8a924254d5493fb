//! Codes: short names that people can type for what a notice is about.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::{Malformed, string_newtype};

/// The characters of a code: 32 digits and letters without `0`, `O`, `1` and `I`, which people confuse.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// The length of a code, in characters. Each character holds 5 bits.
const LENGTH: usize = 8;

/// A code of eight characters. A code names something and gives no right to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(String);

impl TryFrom<String> for Code {
    type Error = Malformed;
    /// Reads a code in upper or lower case.
    fn try_from(value: String) -> Result<Self, Malformed> {
        let upper = value.to_ascii_uppercase();
        if upper.len() == LENGTH && upper.bytes().all(|byte| ALPHABET.contains(&byte)) {
            Ok(Self(upper))
        } else {
            Err(Malformed::new(&value, "a code: copy the eight letters and digits from the notice"))
        }
    }
}
string_newtype!(Code);

impl Code {
    /// The code of a subject, whose parts are given. The same subject always has the same code.
    #[must_use]
    pub fn of(subject: &[&str]) -> Self {
        let digest = Sha256::digest(subject.join("\n"));
        let bits = digest.iter().take(LENGTH * 5 / 8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let character = |index: usize| {
            let letter = usize::try_from(bits >> (5 * index) & 31).unwrap_or_default();
            ALPHABET.get(letter).copied().map_or('2', char::from)
        };
        Self((0..LENGTH).map(character).collect())
    }
}

/// A digest of a subject, whose parts are given, as 32 hexadecimal digits. Nobody finds another subject with the same
/// digest, as somebody could with a [`Code`], which is short.
#[must_use]
pub fn digest(subject: &[&str]) -> String {
    Sha256::digest(subject.join("\n")).iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_code_can_be_read_in_either_case() {
        let code = Code::of(&["shop", "tokyo", "7"]);
        assert_eq!(code.as_str().to_lowercase().parse(), Ok(code.clone()));
        assert_eq!(Code::of(&["shop", "tokyo", "7"]), code);
    }

    #[test]
    fn different_subjects_have_different_codes_with_all_characters() {
        let codes: BTreeSet<String> = (0..1_000).map(|n: u32| Code::of(&["shop", &n.to_string()]).into()).collect();
        assert_eq!(codes.len(), 1_000);
        let characters: BTreeSet<char> = codes.iter().flat_map(|code| code.chars()).collect();
        assert_eq!(characters.len(), ALPHABET.len());
        assert!(codes.iter().all(|code| code.len() == LENGTH));
    }

    #[test]
    fn a_digest_has_128_bits() {
        // `printf 'shop\ntokyo' | sha256sum` begins with these digits.
        assert_eq!(digest(&["shop", "tokyo"]), "2fea137601652bcc89db97117eae449a");
        assert_ne!(digest(&["shop", "tokyo"]), digest(&["shop", "osaka"]));
    }

    #[test]
    fn a_text_with_a_confusable_or_missing_character_is_not_a_code() {
        for text in ["", "ABCDEFG", "ABCDEFGHJ", "ABCDEFG0", "ABCDEFGO", "ABCDEFG1", "ABCDEFGI", "ABCDEFG-", "ABCDEFÄ"]
        {
            assert!(text.parse::<Code>().is_err(), "{text}");
        }
    }
}

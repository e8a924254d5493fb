//! Finds a key that divides what is left of a range.
//!
//! S3 lists keys only forward, and says neither how many there are nor which is the last. A request for one key after a
//! text shows whether anything is left after that text. With such requests, this module finds the character at which
//! the keys that are left begin to differ, and its highest value, and divides the range in the middle of the values.

use sekisho_lambda::ServiceError;

use crate::aws::s3::{S3, list};

/// After the highest character, nothing with the same beginning is left.
const HIGHEST: char = '\u{10ffff}';
const HIGHEST_ASCII: u32 = 0x7f;

/// The part of a listing that is left.
pub(crate) struct Rest<'r> {
    pub(crate) s3: &'r S3,
    pub(crate) bucket: &'r str,
    /// Everything up to this key is listed.
    pub(crate) after: &'r str,
    /// The last key of the range; `None` if the range ends with the listing.
    pub(crate) end: Option<&'r str>,
}

impl Rest<'_> {
    /// Finds a text with keys both before and after it among those that are left. `None` if too few keys are left.
    pub(crate) async fn middle(&self) -> Result<Option<String>, ServiceError> {
        let Some(first) = list::next_key(self.s3, self.bucket, self.after).await? else { return Ok(None) };
        let letters: Vec<char> = first.chars().collect();
        let text = |length: usize| letters.iter().take(length).collect::<String>();
        // The length of the beginning that all keys that are left have in common.
        let (mut common, mut longest) = (0, letters.len() + 1);
        while common + 1 < longest {
            let middle = usize::midpoint(common, longest);
            let begins_otherwise = self.has_key_after(&format!("{}{HIGHEST}", text(middle))).await?;
            if begins_otherwise { longest = middle } else { common = middle }
        }
        let prefix = text(common);
        let first = letters.get(common).map_or(0, |letter| u32::from(*letter));
        let Some(last) = self.last_letter(&prefix, first).await? else { return Ok(None) };
        let middle = if last - first >= 2 { u32::midpoint(first, last) } else { last };
        let divided = format!("{prefix}{}", letter(middle));
        // If the last letter is the only other one, its one key may be the text itself.
        if middle < last || self.has_key_after(&divided).await? { Ok(Some(divided)) } else { Ok(None) }
    }

    /// The highest letter after `prefix`; `None` if nothing is left after `first`.
    async fn last_letter(&self, prefix: &str, first: u32) -> Result<Option<u32>, ServiceError> {
        let has = async |code: u32| self.has_key_after(&format!("{prefix}{}{HIGHEST}", letter(code))).await;
        if !has(first).await? {
            return Ok(None);
        }
        let is_ascii = first < HIGHEST_ASCII && !has(HIGHEST_ASCII).await?;
        // The highest letter is above `low` and not above `high`.
        let (mut low, mut high) = (first, if is_ascii { HIGHEST_ASCII } else { u32::from(HIGHEST) });
        while low + 1 < high {
            let middle = u32::midpoint(low, high);
            if has(middle).await? { low = middle } else { high = middle }
        }
        Ok(Some(high))
    }

    async fn has_key_after(&self, text: &str) -> Result<bool, ServiceError> {
        if self.end.is_some_and(|end| text >= end) {
            return Ok(false);
        }
        let key = list::next_key(self.s3, self.bucket, text.max(self.after)).await?;
        Ok(key.is_some_and(|key| self.end.is_none_or(|end| key.as_str() <= end)))
    }
}

/// The letter with this code, or the next one, because some codes are no letters.
fn letter(code: u32) -> char {
    char::from_u32(code).unwrap_or('\u{e000}')
}

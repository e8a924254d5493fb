//! Names in an answer, which must fit on a phone.

/// How many names an answer lists. The ledger has all of them.
const MOST_NAMED: usize = 5;

/// The first names, and how many more there are.
pub(crate) fn some(names: &[String]) -> String {
    let (first, others) = names.split_at(names.len().min(MOST_NAMED));
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    first.join(", ") + &more
}

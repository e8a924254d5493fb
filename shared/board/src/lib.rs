//! The widgets of the dashboard: their payload, and the parts of which each function builds its HTML.
//!
//! A page is one `<style>` and one element of the class `sekisho`, to which every rule of the stylesheet is bound. It
//! has no script, form or handler, and no `cwdb-action`. The themes differ only in the class of that element.
//!
//! [`maud`] escapes every value. Text that other people or accounts wrote also goes through [`outside`], so that it
//! stays on its line and within its element.

mod links;
mod page;
mod payload;
mod viewer;

pub use self::links::Console;
pub use self::page::{Tone, bar, note, outside, page, tag};
pub use self::payload::{Question, read};
pub use self::viewer::{Theme, Viewer};

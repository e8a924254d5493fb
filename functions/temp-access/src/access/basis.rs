//! On what a grant is based, besides its terms.

use crate::pending::{Claim, PendingRow};
use crate::request::Grant;
use crate::row::Consent;

/// On what a grant is based, besides its terms.
pub(crate) struct Basis<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) consent: Consent,
    /// The claim on the request that was approved.
    pub(crate) approved: Option<&'a Claim>,
    /// The review that is opened before access is given.
    pub(crate) review: Option<PendingRow>,
}

//! Stands in for the crate `crc-fast`, as the S3 SDK uses it: three CRCs of what S3 sends and is sent.
//!
//! That crate knows 49 algorithms, and has 0.66 MB of tables linked in for processors without carry-less multiplication,
//! which no linker can tell are not looked into: a fifth of artifact-checker's zip. It is for gigabytes a second; what is
//! checked here is a byte of an object, or an answer in XML. The arithmetic is that of the crate `crc`.
//!
//! Should the SDK call more of `crc-fast` than this, it does not compile: take the patch out of the workspace's
//! `Cargo.toml` then. Should it ask for a version that this is not, cargo warns that the patch is unused, the real crate is
//! back, and `tests/checks` finds the zip too large.

use std::fmt;

use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc};

static ISO_HDLC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
static ISCSI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
static NVME: Crc<u64> = Crc::<u64>::new(&CRC_64_NVME);

/// Those that S3 has, by their names in `crc-fast`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// S3's CRC32.
    Crc32IsoHdlc,
    /// S3's CRC32C.
    Crc32Iscsi,
    /// S3's CRC64NVME.
    Crc64Nvme,
}

/// A checksum under way.
#[derive(Clone)]
pub struct Digest(State);

#[derive(Clone)]
enum State {
    Short(crc::Digest<'static, u32>),
    Long(crc::Digest<'static, u64>),
}

impl Digest {
    /// Of nothing yet.
    #[must_use]
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        Self(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::Short(ISO_HDLC.digest()),
            CrcAlgorithm::Crc32Iscsi => State::Short(ISCSI.digest()),
            CrcAlgorithm::Crc64Nvme => State::Long(NVME.digest()),
        })
    }

    /// Of these bytes as well.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Short(digest) => digest.update(bytes),
            State::Long(digest) => digest.update(bytes),
        }
    }

    /// The checksum; one of 32 bits is in the lower half.
    #[must_use]
    pub fn finalize(self) -> u64 {
        match self.0 {
            State::Short(digest) => digest.finalize().into(),
            State::Long(digest) => digest.finalize(),
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Digest").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of CRCs: <https://reveng.sourceforge.io/crc-catalogue/all.htm>.
    #[test]
    fn the_checksums_are_s3s() {
        let cases = [
            (CrcAlgorithm::Crc32IsoHdlc, 0xCBF4_3926),
            (CrcAlgorithm::Crc32Iscsi, 0xE306_9283),
            (CrcAlgorithm::Crc64Nvme, 0xAE8B_1486_0A79_9888),
        ];
        for (algorithm, expected) in cases {
            let mut digest = Digest::new(algorithm);
            digest.update(b"1234");
            digest.update(b"56789");
            assert_eq!(digest.finalize(), expected, "{algorithm:?}");
        }
    }
}

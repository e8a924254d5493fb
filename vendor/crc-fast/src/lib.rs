//! A replacement for the crate `crc-fast`, with only the part that the S3 SDK uses: the three CRCs of data that S3
//! receives and sends.
//!
//! The original crate supports 49 algorithms. It links 0.66 MB of tables for processors without carry-less
//! multiplication, a fifth of artifact-checker's zip. Nothing reads those tables, but no linker can detect this. The
//! original is made for gigabytes per second. artifact-checker does not need such speed: it computes checksums only of
//! one byte of an object or of an answer in XML. The crate `crc` does the arithmetic.
//!
//! If the SDK uses more of `crc-fast`, the SDK no longer compiles with this crate. In that case, remove the patch from
//! the workspace's `Cargo.toml`. If the SDK requires a version that this crate does not have, cargo warns that the
//! patch is unused and links the original crate, and `tests/checks` reports that the zip is too large.

use std::fmt;

use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc};

static ISO_HDLC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
static ISCSI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
static NVME: Crc<u64> = Crc::<u64>::new(&CRC_64_NVME);

/// The algorithms that S3 supports, under their names in `crc-fast`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// S3 calls this algorithm CRC32.
    Crc32IsoHdlc,
    /// S3 calls this algorithm CRC32C.
    Crc32Iscsi,
    /// S3 calls this algorithm CRC64NVME.
    Crc64Nvme,
}

/// An unfinished checksum.
#[derive(Clone)]
pub struct Digest(State);

#[derive(Clone)]
enum State {
    Short(crc::Digest<'static, u32>),
    Long(crc::Digest<'static, u64>),
}

impl Digest {
    /// The checksum of no bytes.
    #[must_use]
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        Self(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::Short(ISO_HDLC.digest()),
            CrcAlgorithm::Crc32Iscsi => State::Short(ISCSI.digest()),
            CrcAlgorithm::Crc64Nvme => State::Long(NVME.digest()),
        })
    }

    /// Adds bytes to the checksum.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Short(digest) => digest.update(bytes),
            State::Long(digest) => digest.update(bytes),
        }
    }

    /// The finished checksum. A 32-bit checksum is in the lower half.
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

    /// The check values are from <https://reveng.sourceforge.io/crc-catalogue/all.htm>.
    #[test]
    fn each_algorithm_has_its_check_value() {
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

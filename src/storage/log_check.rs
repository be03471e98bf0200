//! A check of RocksDB's logs before RocksDB opens them: it finds damage that RocksDB would take for a torn end. The logs are
//! the log of writes and the manifest, which is the log of the tables in use.
//!
//! Contract: a log is refused if a whole record follows after damage. A log that only ends in the middle of a record is
//! accepted. RocksDB itself refuses a wrong checksum. But it takes a record whose length exceeds the file for a torn one,
//! it skips the rest of a block after a header of zeros, and it never returns from a header that claims a recycled log. For
//! one damaged header it would drop up to 32 KiB of acknowledged writes, or hang.
//!
//! Source: `db/log_format.h` and `db/log_reader.cc` of RocksDB 11.8. A log is a sequence of blocks of 32 KiB. A block is a
//! sequence of records and up to 6 bytes of padding. A record is a checksum (4, masked CRC32C of type and payload), a
//! length (2), a type (1) and the payload. Numbers are little-endian.
//!
//! Caveats: an acknowledged last record that lost its end looks like a torn one. A torn record whose value holds a copy of
//! a log looks like damage.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::StoreError;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;

/// The reflected CRC32C of each byte.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the index is below 256, and `try_from` is not const")]
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Checks all logs in a store's folder.
///
/// # Errors
/// When a log is damaged or cannot be read.
pub(super) fn check_logs(store: &Path) -> Result<(), StoreError> {
    let failed =
        |path: &Path, error: &io::Error| StoreError::Failed { message: format!("{}: {error}", path.display()) };
    let files = match fs::read_dir(store) {
        Ok(files) => files,
        // RocksDB's own error for a missing folder is clearer.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(store, &error)),
    };
    for file in files {
        let path = file.map_err(|error| failed(store, &error))?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log")
            || path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"MANIFEST-"));
        if !is_log {
            continue;
        }
        let damage = File::open(&path).and_then(find_damage).map_err(|error| failed(&path, &error))?;
        if let Some(Damage { at, followed_by }) = damage {
            let message = format!(
                "{} is damaged at byte {at}, and whole records follow from byte {followed_by} on: this is not a torn \
                 end, and without the damaged part this node would forget acknowledged writes",
                path.display()
            );
            return Err(StoreError::Damaged { message });
        }
    }
    Ok(())
}

/// Damage with a whole record after it.
#[derive(Debug, PartialEq, Eq)]
struct Damage {
    /// The offset of the first record that is not whole.
    at: u64,
    /// The offset of a later record that is whole.
    followed_by: u64,
}

fn find_damage(mut log: impl Read) -> io::Result<Option<Damage>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut start = 0;
    let mut damaged_at = None;
    loop {
        block.clear();
        log.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        let mut at = 0;
        while damaged_at.is_none() && block.len() - at >= HEADER_BYTES {
            match whole_record(&block[at..]) {
                Some(bytes) => at += bytes,
                None => damaged_at = Some(start + at as u64),
            }
        }
        if let Some(damaged_at) = damaged_at {
            // The damaged length cannot be trusted, so the next record may begin anywhere.
            if let Some(next) = (at..block.len()).find(|next| whole_record(&block[*next..]).is_some()) {
                return Ok(Some(Damage { at: damaged_at, followed_by: start + next as u64 }));
            }
        }
        start += block.len() as u64;
    }
}

/// The length of the record at the start of `bytes`; `None` when that record is not whole.
fn whole_record(bytes: &[u8]) -> Option<usize> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let payload = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
    // Types 1 to 4: a whole record, or its first, middle or last part. Other types belong to compressed, recycled or
    // chained logs, which are all off.
    let is_known = (1..=4).contains(&kind);
    (is_known && masked_crc(kind, payload) == u32::from_le_bytes([c0, c1, c2, c3]))
        .then(|| HEADER_BYTES + payload.len())
}

fn masked_crc(kind: u8, payload: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
    let crc = !payload.iter().fold(step(u32::MAX, &kind), step);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of records of these sizes, each in one part.
    fn log(sizes: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let payload: Vec<u8> = (0..*size).map(|at| u8::try_from((at + index) % 251).expect("a byte")).collect();
            bytes.extend_from_slice(&masked_crc(1, &payload).to_le_bytes());
            bytes.extend_from_slice(&u16::try_from(*size).expect("a short record").to_le_bytes());
            bytes.push(1);
            bytes.extend_from_slice(&payload);
        }
        bytes
    }

    fn damage(log: &[u8]) -> Option<Damage> {
        find_damage(log).expect("a slice can be read")
    }

    #[test]
    fn crc_is_that_of_its_standard() {
        // Without the mask this is CRC32C's check value, 0xe3069283.
        let unmasked = masked_crc(b'1', b"23456789").wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0xe306_9283);
    }

    #[test]
    fn any_changed_bit_before_the_last_record_is_damage() {
        let mut bytes = log(&[40, 0, 300, 25, 60]);
        let last = bytes.len() - 67;
        for at in 0..last {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(damage(&bytes).is_some(), "bit {bit} of byte {at}");
                bytes[at] ^= 1 << bit;
            }
        }
        assert_eq!(damage(&bytes), None);
    }

    #[test]
    fn log_may_end_anywhere() {
        let bytes = log(&[40, 0, 300, 25, 60]);
        for end in 0..=bytes.len() {
            assert_eq!(damage(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(damage(&[bytes, vec![0; 100_000]].concat()), None, "zeros follow it");
    }

    #[test]
    fn damage_is_found_across_blocks() {
        let first = log(&[BLOCK_BYTES - 20]);
        let mut bytes = [&first[..], &[0; 13], &log(&[100])].concat();
        let gap = Damage { at: first.len() as u64, followed_by: BLOCK_BYTES as u64 };
        assert_eq!(damage(&bytes), Some(gap), "13 bytes are no padding");
        bytes[BLOCK_BYTES - 13..BLOCK_BYTES].copy_from_slice(&log(&[6]));
        assert_eq!(damage(&bytes), None);
        bytes[5] ^= 0x80;
        let followed_by = Some(Damage { at: 0, followed_by: (BLOCK_BYTES - 13) as u64 });
        assert_eq!(damage(&bytes), followed_by);
    }
}

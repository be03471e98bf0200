//! A look at RocksDB's logs before RocksDB opens them: whether damage in one would pass for a torn end. They are the
//! log of writes and the manifest, which is a log of which tables there are.
//!
//! Contract: a log in which anything that was written whole follows after damage is refused; a log that merely ends in
//! the middle of a record is not. RocksDB itself refuses a wrong checksum, but takes a record whose length reaches past
//! the end of the file for a torn one, skips a block from a header of zeros on, and never returns from a header that
//! claims to be of a recycled log: each drops, or hangs on, up to 32 KiB of acknowledged writes for one damaged header.
//!
//! Source: `db/log_format.h` and `db/log_reader.cc` of RocksDB 11.8. A log is blocks of 32 KiB; a block is records of
//! checksum (4, masked CRC32C of type and payload), length (2), type (1) and payload, and up to 6 bytes of padding. All
//! little-endian.
//!
//! Caveats: a last record that was acknowledged and lost its end looks like a torn one. A torn record whose value holds
//! a copy of a log looks like damage.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::StoreError;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;

/// CRC32C of each byte, reflected.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "there are 256, and `try_from` is not const")]
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

/// Looks through all logs in a store's folder.
///
/// # Errors
/// When one is damaged or cannot be read.
pub(super) fn check_logs(store: &Path) -> Result<(), StoreError> {
    let failed =
        |path: &Path, error: &io::Error| StoreError::Failed { message: format!("{}: {error}", path.display()) };
    let files = match fs::read_dir(store) {
        Ok(files) => files,
        // RocksDB says it better.
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
                "{} is damaged at byte {at}, and it goes on at byte {followed_by}: this is no torn end, and without \
                 what is damaged this node would forget what it acknowledged",
                path.display()
            );
            return Err(StoreError::Damaged { message });
        }
    }
    Ok(())
}

/// Damage that is not at the end.
#[derive(Debug, PartialEq, Eq)]
struct Damage {
    /// The first record that is not whole.
    at: u64,
    /// A later one that is.
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
            // Its length cannot be trusted, so that the next one may be anywhere.
            if let Some(next) = (at..block.len()).find(|next| whole_record(&block[*next..]).is_some()) {
                return Ok(Some(Damage { at: damaged_at, followed_by: start + next as u64 }));
            }
        }
        start += block.len() as u64;
    }
}

/// The length of the record that `bytes` begin with, when it is whole.
fn whole_record(bytes: &[u8]) -> Option<usize> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let payload = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
    // Whole, first, middle and last part. Other kinds are written where logs are compressed, recycled or chained, which
    // are all off.
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

    /// A log of records of these sizes, all in one part each.
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
        // The masking undone; 0xe3069283 is CRC32C's check value.
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

//! The values of a workload: incompressible bytes, sliced from one shared buffer.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use rand::{Rng, RngExt as _, SeedableRng as _};

use crate::limits::VALUE_BYTES_MAX;

/// The length of the buffer beyond the longest value. Each value begins at another place, so that values differ.
const SLACK_BYTES: usize = 64 << 10;

/// The size of values: one size, or a range from which sizes are drawn uniformly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValueBytes {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl ValueBytes {
    /// The mean size.
    pub(super) fn mean(self) -> usize {
        self.min.midpoint(self.max)
    }
}

impl FromStr for ValueBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = |text: &str| {
            text.trim().parse::<usize>().ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX).ok_or_else(|| {
                format!("{text:?} is not a size: 0 to {VALUE_BYTES_MAX} is accepted, or a range such as 100..10000")
            })
        };
        let (min, max) = match text.split_once("..") {
            None => (bytes(text)?, bytes(text)?),
            Some((min, max)) => (bytes(min)?, bytes(max.trim_start_matches('='))?),
        };
        if min > max {
            return Err(format!("the range {min}..{max} is empty: give the smaller size first"));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for ValueBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{}..{}", self.min, self.max) }
    }
}

/// Draws values.
#[derive(Clone, Debug)]
pub(super) struct Values {
    sizes: ValueBytes,
    buffer: Bytes,
}

impl Values {
    pub(super) fn new(sizes: ValueBytes, seed: u64) -> Self {
        let mut buffer = vec![0; sizes.max + SLACK_BYTES];
        rand::rngs::SmallRng::seed_from_u64(seed).fill(&mut buffer[..]);
        Self { sizes, buffer: buffer.into() }
    }

    /// Draws a value: a slice of the buffer, not a copy.
    pub(super) fn draw(&self, random: &mut impl Rng) -> Bytes {
        let length = random.random_range(self.sizes.min..=self.sizes.max);
        let start = random.random_range(0..=self.buffer.len() - length);
        self.buffer.slice(start..start + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_one_number_or_a_range() {
        assert_eq!("1024".parse(), Ok(ValueBytes { min: 1_024, max: 1_024 }));
        assert_eq!("100..10000".parse(), Ok(ValueBytes { min: 100, max: 10_000 }));
        assert_eq!("100..=200".parse(), Ok(ValueBytes { min: 100, max: 200 }));
        for text in ["", "..", "1..", "-1", "1KiB", "62914561", "9..1"] {
            assert!(text.parse::<ValueBytes>().is_err(), "{text}");
        }
        assert_eq!(ValueBytes { min: 100, max: 10_000 }.to_string(), "100..10000");
        assert_eq!(ValueBytes { min: 100, max: 10_000 }.mean(), 5_050);
    }

    #[test]
    fn values_are_of_the_sizes_asked_for_and_differ() {
        let values = Values::new(ValueBytes { min: 10, max: 12 }, 1);
        let mut random = rand::rngs::SmallRng::seed_from_u64(1);
        let drawn: Vec<Bytes> = (0..100).map(|_| values.draw(&mut random)).collect();
        for length in 10..=12 {
            assert!(drawn.iter().any(|value| value.len() == length));
        }
        assert!(drawn.iter().all(|value| (10..=12).contains(&value.len())));
        assert_ne!(drawn[0], drawn[1]);
        assert!(Values::new(ValueBytes { min: 0, max: 0 }, 1).draw(&mut random).is_empty());
    }
}

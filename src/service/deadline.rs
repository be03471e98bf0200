//! How long a request may take: the time that its caller gives it, less the time that the answer needs.
//!
//! Some transports drop a request at exactly the caller's deadline and answer a bare "cancelled", which says nothing
//! about a write. An answer is therefore made a little before.

use std::time::{Duration, Instant};

use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MARGIN_MAX, DEADLINE_MARGIN_MIN, DEADLINE_MAX};

/// When a request must be answered. It counts from the arrival of the request's head, as the caller counts, and not from
/// the end of a large body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// The node answers by this time.
    pub(crate) answer_at: Instant,
    /// A node that has not answered by this time is stuck, and the service answers in its place.
    pub(crate) give_up_at: Instant,
    /// Whether the caller has given the time.
    is_given: bool,
}

impl Deadline {
    /// The deadline of a request that arrived at `now` and whose caller waits for `given`.
    pub(crate) fn new(given: Option<Duration>, now: Instant) -> Self {
        let Some(given) = given else {
            // No transport cuts the answer off, so that no margin is needed.
            let answer_at = now + DEADLINE_DEFAULT;
            return Self { answer_at, give_up_at: answer_at + DEADLINE_MARGIN_MAX, is_given: false };
        };
        let given = given.min(DEADLINE_MAX);
        let margin = (given / 10).clamp(DEADLINE_MARGIN_MIN, DEADLINE_MARGIN_MAX);
        let answer_at = now + given.saturating_sub(margin);
        Self { answer_at, give_up_at: answer_at + margin / 2, is_given: true }
    }

    /// The deadline of a page of this request, which is asked for at `now`. A stream may take long: unless its caller gave
    /// it a time, each page has the time of a request.
    pub(crate) fn of_page(self, now: Instant) -> Self {
        let of_page = Self::new(None, now);
        if self.is_given && self.answer_at < of_page.answer_at { self } else { of_page }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(given: Duration) -> Duration {
        let now = Instant::now();
        Deadline::new(Some(given), now).answer_at - now
    }

    #[test]
    fn answer_leaves_a_tenth_before_within_bounds() {
        assert_eq!(given(Duration::from_secs(1)), Duration::from_millis(900));
        assert_eq!(given(Duration::from_millis(500)), Duration::from_millis(450));
        assert_eq!(given(Duration::from_secs(10)), Duration::from_millis(9_900), "the margin has an upper bound");
        assert_eq!(given(Duration::from_millis(10)), Duration::from_millis(8), "and a lower bound");
        assert_eq!(given(Duration::from_millis(1)), Duration::ZERO, "less time than the margin is no time");
        assert_eq!(given(Duration::ZERO), Duration::ZERO);
        let week = Duration::from_hours(7 * 24);
        assert_eq!(given(week), DEADLINE_MAX.saturating_sub(DEADLINE_MARGIN_MAX), "a week is not honoured");
        let now = Instant::now();
        assert_eq!(Deadline::new(None, now).answer_at - now, DEADLINE_DEFAULT);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_time_gives_a_deadline_within_bounds(nanos in prop::option::of(any::<u64>())) {
            let now = Instant::now();
            let deadline = Deadline::new(nanos.map(Duration::from_nanos), now);
            prop_assert!(deadline.answer_at >= now && deadline.answer_at <= now + DEADLINE_MAX);
            prop_assert!(deadline.give_up_at > deadline.answer_at);
            prop_assert!(deadline.give_up_at <= now + DEADLINE_MAX + DEADLINE_MARGIN_MAX);
        }
    }
}

//! The events of a step, for the properties that must hold sometimes: a model that reaches nothing shows nothing.
//!
//! Milestones do not tell states apart, so that they cost no states.

/// A set of events, a bit for each.
pub type Milestones = u64;

macro_rules! milestones {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        $(pub const $name: Milestones = 1 << $bit;)*

        /// For each of `wanted`, the property that the event happens sometimes.
        pub fn properties(wanted: Milestones) -> Vec<stateright::Property<crate::world::World>> {
            let mut properties = Vec::new();
            $(if wanted & $name != 0 {
                properties.push(stateright::Property::sometimes($text, |_, state: &crate::world::State| {
                    state.milestones & $name != 0
                }));
            })*
            properties
        }
    };
}

milestones! {
    WROTE_BACK = 0, "a read wrote back";
    FETCHED = 1, "a read fetched the content in a further round";
    OVERWROTE = 2, "a write superseded another";
    BEATEN = 3, "a store came after a greater one";
    READ_TOMBSTONE = 4, "a delete was seen";
    READ_UNFINISHED = 5, "a read returned a write that was not acknowledged";
    EPOCH_WITH_RECORD = 6, "a record carried an epoch";
    REPEATED = 7, "a message arrived twice";
    RESENT = 8, "a request was resent";
    GAVE_UP = 9, "a client gave up and went on";
    RESTARTED_IN_CLOCK_ROUND = 10, "a restart within a clock round";
    RESTARTED_AND_KEPT = 11, "a restart with a record in flight to the disk, which was kept";
    RESTARTED_AND_LOST = 12, "a restart with a record in flight to the disk, which was lost";
    RESTARTED_BEFORE_STORE = 13, "a restart between clock round and store";
    EARLIER_INCARNATION = 14, "a message of an earlier incarnation counted";
    READ_EARLY = 15, "a record was read before its node knew that it was durable";
    FAILED_AND_KEPT = 16, "a batch failed and was on disk all the same";
    FAILED_AND_LOST = 17, "a batch failed and was not on disk";
    BOOTSTRAPPED = 18, "a node was bootstrapped";
    REFUSED_STORE_ID = 19, "a store id was refused";
    REFUSED_INCARNATION = 20, "an older incarnation was refused";
    OUTCOME_UNKNOWN = 22, "a client was told that its write's outcome is unknown";
    HEDGED = 23, "the remaining replicas were asked";
    PREEMPTED = 24, "a ballot was preempted";
    SETTLED = 25, "a record was accepted under another ballot than its first";
    CONDITION_FAILED = 26, "a condition did not hold";
    REFUSED_DROPPED = 27, "a replica refused a dropped table";
    FOUND_NO_TABLE = 28, "a client was told that there is no table";
    FOUND_DROPPING = 29, "a client was told that its table is being dropped";
    CUT_OFF = 30, "a drop left the outcome of a write open";
    FORGOTTEN = 31, "a deletion was forgotten";
    EMPTIED = 32, "a node gained the slot of the key";
    TAKEN_OVER = 33, "a node took the slot of the key over";
    MEMBERS_CHANGED = 34, "the members after the change served alone";
    REFUSED_OUTDATED = 35, "a replica refused a request of an earlier configuration";
    ALL_DONE = 21, "every client was answered";
}

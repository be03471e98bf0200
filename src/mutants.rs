//! Rules of the protocol, stated where the code keeps them, and switches that break one of them each.
//!
//! [`rule!`] and [`must!`] name a rule by the [`Mutant`] that breaks it. Without the cargo feature `mutants` they compile to
//! the right code alone. With the feature, a test turns one mutant on and must then find the fault.

/// One way to break a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// All nodes put one writer into their stamps.
    StampWithoutWriter,
    /// A smaller stamp replaces a greater one.
    SmallerStampOverwrites,
    /// A read answers a record that less than a majority holds.
    NoWriteBack,
    /// A store is acknowledged when it arrives.
    AcknowledgedBeforeDurable,
    /// A read sees a record that is still on its way to the disk.
    ReadsWhatIsNotDurable,
    /// A new epoch is used while it is on its way to the disk.
    EpochUsedBeforeDurable,
    /// A batch replaces a greater epoch that was in flight by a smaller one.
    EpochMayFall,
    /// A node serves before the epoch of its incarnation is durable.
    ServesBeforeStarted,
    /// A write draws its stamp above its own node's clock alone.
    NoClockRound,
    /// A write joins a clock round that began before it.
    OlderClockRound,
    /// A write that is resent draws a new stamp.
    NewStampOnResend,
    /// A node that can be reached stands in for a replica that cannot.
    StandInsCount,
    /// A refusal counts as "nothing is held".
    RefusalCountsAsNothing,
    /// A known id is accepted under another store id.
    AnyStoreIsAccepted,
    /// A known data folder is accepted in any incarnation.
    AnyIncarnationIsAccepted,
    /// A known data folder is accepted when its epoch is greater, although it does not remember the incarnation recorded.
    GreaterEpochIsAccepted,
    /// A node takes the cluster for bootstrapped as soon as it has met one peer.
    BootstrapsEarly,
    /// Answers to an earlier incarnation count.
    EarlierIncarnationsCount,
    /// A clock of any clock round counts for every write that waits for clocks.
    ClockOfEarlierRoundCounts,
    /// An answer to an earlier round of an operation counts in the present one.
    AnswerOfEarlierRoundCounts,
    /// A majority of the replicas that were asked passes for a majority of the slot's replicas.
    MajorityOfAsked,
    /// Only the replicas that were asked first are ever asked.
    NobodyElseIsAsked,
    /// A read answers with the content that it has, whichever stamp it settled on.
    ContentOfAnotherStamp,
    /// Two records of one stamp pass for the same.
    SameStampIsMerged,
    /// The record cache keeps the result of a read although a write overlapped with it.
    ReadIsCachedBesidePersist,
    /// The record cache shows a record while a write replaces it.
    CacheShowsWhatIsReplaced,
    /// Stamps are drawn from a copy of the clock.
    SecondIssuer,
    /// Stores that wait for a batch are acknowledged when it fails.
    AcknowledgedAfterFailure,
    /// A node goes on with a store that failed as if it had not.
    FailureIsForgotten,
    /// A record becomes durable without raising the clock.
    ClockBelowRecords,
    /// A read that shows a record does not raise the clock.
    ClockBelowReads,
    /// A client is told that a write did not happen although it was sent to replicas.
    UnknownSaidNotApplied,
    /// A read insists on the content of a holder that may be dead.
    InsistsOnHolder,
    /// A late hello of an earlier incarnation counts against the present one.
    LateHelloCounts,
    /// A conditional write is a plain write with a fresh stamp.
    ConditionalTakesFreshStamp,
    /// A conditional write builds on a plain record that a minority holds.
    BaseNotSettled,
    /// A conditional write builds on a record above its ballot.
    BaseAboveBallot,
    /// A condition fails on a record that a minority holds.
    FailsUnsettled,
    /// A condition fails on a record that was settled before the write was called.
    LatecomersAreJudged,
    /// A condition fails on a record that a minority was seen to hold.
    LookFailsUnsettled,
    /// A request that is sent again fails although no promise keeps its first try from taking effect.
    LookFailsResend,
    /// A request that is sent again is not looked for in the record's history.
    RecentIsIgnored,
    /// A request runs although the history no longer reaches back to what its client has seen.
    RecentFloorIgnored,
    /// An addition is built on a record that is older than the version which its client has seen.
    AddsBelowSince,
    /// A request that was attempted runs again on any later record.
    RunsAgainOnNewBase,
    /// A request that may have taken effect is called failed.
    ResendSaysFailed,
    /// A read stores the record of a conditional write that may never be chosen.
    StoresUnchosen,
    /// Settling gives a record a new version.
    SettlingChangesVersion,
    /// A replica accepts below its promise.
    AcceptUnchecked,
    /// A replica that restarted accepts the ballots of earlier incarnations.
    EpochFloorIsForgotten,
    /// A replica promises a ballot whose epoch is not durable.
    PromiseBeforeEpoch,
    /// A promise does not show a record that is on its way to the disk.
    PromiseOvertakesBatch,
    /// A chosen record is stored without raising the promise.
    StorePromisesNothing,
    /// A read of one replica answers a record below the version that its client has seen.
    OneReadIsCalledCurrent,
    /// A replica does not announce the record because of which it acknowledged a smaller one.
    BeatenIsNotTold,
    /// A watch reads a key without the replicas that announced it.
    WatchReadsAnyMajority,
    /// A node that was followed anew covers watches that began before.
    ResubscribedCounts,
    /// A cursor counts changes that were announced and not told.
    CursorAheadOfTold,
    /// A cursor counts changes whose keys are read once more before they are told.
    CursorAheadOfSecondRead,
    /// A watch is told what one replica announced.
    WatchTellsUnread,
    /// A watch is ready without a majority.
    WatchWithoutMajority,
    /// A key is read for watches while another read of it is under way.
    WatchGoesBack,
    /// The list that a watch is told first counts the answers of any nodes.
    ListNotBoundToWatch,
    /// The list that a watch is told first has what a majority agrees on, although a node that covers the watch has a greater
    /// record.
    BoundListTakesMajority,
    /// A watch that is told what is there is not told of keys that change while their page is gathered.
    ChangeBesidePageIsLost,
    /// A read answers an absence as soon as it finds a value whose time to live has passed.
    DueIsAbsent,
    /// A value whose time to live has passed is deleted by a plain write.
    ExpiryDeletesPlainly,
    /// The deletion of a value whose time to live has passed does not name the version.
    ExpiryOfAnotherVersion,
    /// A read deletes a value, whose time to live has passed, before a majority is known to hold that.
    DueUnsettled,
    /// A version that was kept at a count which a restart has forgotten is as old as can be.
    AgeUnclamped,
    /// A version inherits the age of the version that it replaces.
    AgeByKey,
    /// A peer that restarts behind a link that does not break is not greeted again.
    QuietRestartIsMissed,
    /// A key enters the index with the batch after that of its first record.
    IndexInAnotherBatch,
    /// A page of a list counts the answers of any nodes, although some slots lack a majority.
    ListWithoutMajorityOfASlot,
    /// A page of a list goes beyond the last key that some replica looked at.
    ListBeyondShortestPage,
    /// A replica does not name tombstones in a list.
    ListOmitsTombstones,
    /// A list answers the greatest record named, although less than a majority holds it.
    ListTakesGreatest,
    /// A drop is done when one node knows of it.
    DropAtOne,
    /// A drop is done when a majority of the replicas of one slot knows of it.
    DropOfOneSlot,
    /// A drop is acknowledged before it is durable.
    DropIsVolatile,
    /// The last step of a drop deletes the record of the name, whatever it says.
    DeletesAnyRecord,
    /// A refusal because of a drop is taken for the absence of the table.
    RefusedIsMissing,
    /// A table that is being dropped is taken for one that is not there.
    DroppingIsMissing,
    /// A table is created while one of its name is being dropped.
    CreatedWhileDropping,
    /// A version that clients see does not say of which table it is.
    VersionWithoutId,
    /// A write that may have happened in a dropped table goes on in a new one.
    RetriedUnderNewId,
    /// An addition that keeps the time to live takes it away.
    AdditionLosesTtl,
    /// An addition keeps the time to live although it was not asked to.
    AdditionKeepsTtl,
    /// An addition that keeps the time to live lets it begin anew.
    AdditionRenewsTtl,
    /// An addition that keeps the time to live adds to a value whose time has passed.
    AdditionToExpired,
    /// A list shows the tag of a record for its version.
    ListShowsTag,
    /// A record that becomes durable while its slot is counted is not counted.
    ChangeBesideCountIsLost,
    /// A record that is replaced stays in its leaf.
    LeafKeepsReplaced,
    /// The records of a dropped table stay in their leaves when the store removes them.
    CleaningKeepsLeaf,
    /// Leaves stay what they are although nobody knows whether a batch is on the disk.
    LeavesOutliveFailure,
    /// A key is repaired where a majority holds one record, whatever the others hold.
    RepairSkipsReplica,
    /// Repair stores the greatest record that it finds, although it may not be chosen.
    RepairSpreadsUnchosen,
    /// A replica takes in the writes that its fence is to keep out.
    NoFence,
    /// A node takes for a fence what its own clock was, whoever has reached that.
    FenceIsOwnClock,
    /// A round goes on once a majority has taken the fence.
    FenceAtMajority,
    /// A fence is acknowledged before it is durable.
    FenceIsVolatile,
    /// A fence is acknowledged before what was taken in earlier is durable.
    FenceOvertakesBatch,
    /// A replica accepts ballots up to its fence.
    FenceLetsBallotsPass,
    /// A replica refuses old records that another one has.
    FenceStopsRepair,
    /// A write that the fence keeps out counts as done where the replica has a record that stands on an absence.
    FencedCountsAsBeaten,
    /// A round compares the records of a majority.
    PullFromMajority,
    /// A round stores the greatest record that it finds, although it may not be chosen.
    SyncSpreadsUnchosen,
    /// A round seals a slot whatever its replicas hold.
    RecordsAreNotBroughtLevel,
    /// A replica keeps what is brought from another one, although it may have forgotten a greater deletion.
    RepairIgnoresSeal,
    /// A seal keeps out records by the greater of their clocks, and not by their stamps.
    SealJudgesHigh,
    /// A replica accepts a record below the seal of its slot.
    AcceptBelowSeal,
    /// A read tells an absence with a seal that less than a majority has.
    AbsenceToldUnsealed,
    /// A read writes back a record although a replica has forgotten a deletion above it.
    WritesBackBelowSeal,
    /// A conditional write builds above a seal that less than a majority has.
    SealNotSettled,
    /// A conditional write keeps the stamp of its base, although that is below the seal.
    NothingIsLifted,
    /// A conditional write keeps the stamp of a record that is below the seal.
    LiftsAbsenceOnly,
    /// A deletion that is removed stays in its leaf.
    ForgottenStaysInLeaf,
    /// While members change, a majority of the old replicas is enough.
    NoJointQuorum,
    /// A request under an older configuration is served.
    OldNumberIsServed,
    /// An answer bears the number of the configuration under which it was asked for.
    AnswerBearsTheNumberAsked,
    /// A node keeps what it holds of slots that it gains.
    GainedSlotsKeepData,
    /// A node keeps what it holds of slots that it gains anew while it gained them before.
    EmptiedOnlyOnce,
    /// A write draws another stamp when members change.
    NewStampOnChange,
    /// A read goes on with the answers of an older configuration.
    ReadKeepsItsRound,
    /// A proposer asks to accept a configuration without asking for promises.
    ConfigWithoutPrepare,
    /// A proposer ignores what was accepted before.
    ConfigIgnoresAccepted,
    /// A node serves slots that it gains before it knows what others take in no more.
    NoFloors,
    /// The seals of slots that a node gains are not told to it.
    SealNotHandedOver,
    /// A node takes slots over from one old replica.
    CopyFromOne,
    /// A node takes over records of conditional writes that may not be chosen.
    CopyRaw,
    /// A node that takes slots over is not told which tables were dropped.
    ShrinkWithoutDrops,
    /// Where fewer nodes are to hold each slot, those that hold it already take nothing over.
    ShrinkWithoutCopy,
    /// A node judges by the seals of slots that it takes over.
    SealsWhileTakingOver,
    /// Deletions are forgotten while members change.
    DropsWhileJoint,
    /// A change ends before all have taken over what they must.
    CommitBeforeComplete,
    /// A change ends once one member has taken over what it must.
    CommitWithOneComplete,
    /// A list counts the answers of nodes that take slots over.
    ListAnswersForFresh,
    /// A node keeps its placement where the same nodes get other weights or zones.
    OtherSitesKeepPlacement,
    /// The replicas of a slot may all lie in one zone.
    ZonesAreIgnored,
    /// A backup saves what one replica holds.
    BackupFromOneReplica,
    /// A new cluster for the keys of another one begins with its own clocks.
    RestoreBelowOldClock,
    /// A member that comes later keeps its own clock, where the cluster began above it.
    JoinsBelowFloor,
}

impl Mutant {
    /// All mutants, each with the rule that it breaks.
    pub const ALL: [(Self, &'static str); 142] = [
        (Self::StampWithoutWriter, "the writer is part of the stamp"),
        (Self::SmallerStampOverwrites, "no overwrite by a smaller stamp"),
        (Self::NoWriteBack, "a read writes back a record that it did not find at a majority"),
        (Self::AcknowledgedBeforeDurable, "durable before acknowledged"),
        (Self::ReadsWhatIsNotDurable, "no reply reveals a record that a crash can take back"),
        (Self::EpochUsedBeforeDurable, "an epoch is durable before it is used"),
        (Self::EpochMayFall, "an epoch is durable before it is used"),
        (Self::ServesBeforeStarted, "an epoch is durable before it is used"),
        (Self::NoClockRound, "the clock round follows the invocation"),
        (Self::OlderClockRound, "the clock round follows the invocation"),
        (Self::NewStampOnResend, "a write is resent under its stamp"),
        (Self::StandInsCount, "only R(slot) counts"),
        (Self::RefusalCountsAsNothing, "nothing is an answer, a refusal is not"),
        (Self::AnyStoreIsAccepted, "no answer after losing the disk"),
        (Self::AnyIncarnationIsAccepted, "no answer from an older folder"),
        (Self::GreaterEpochIsAccepted, "no answer from an older folder"),
        (Self::BootstrapsEarly, "a cluster is bootstrapped once, when all nodes have met"),
        (Self::EarlierIncarnationsCount, "replies are matched by incarnation"),
        (Self::ClockOfEarlierRoundCounts, "replies are matched by round"),
        (Self::AnswerOfEarlierRoundCounts, "replies are matched by round"),
        (Self::MajorityOfAsked, "only a majority of R(slot) counts, whoever is asked"),
        (Self::NobodyElseIsAsked, "no minority stalls a client"),
        (Self::ContentOfAnotherStamp, "the value comes with the very stamp settled on"),
        (Self::ReadIsCachedBesidePersist, "the cache holds what the store holds"),
        (Self::CacheShowsWhatIsReplaced, "the cache holds what the store holds"),
        (Self::SameStampIsMerged, "one stamp with two contents is never merged"),
        (Self::SecondIssuer, "one issuer for each node"),
        (Self::AcknowledgedAfterFailure, "nothing is acknowledged after a failed fsync"),
        (Self::FailureIsForgotten, "nothing is acknowledged after a failed fsync"),
        (Self::ClockBelowRecords, "the clock is never below an acknowledged record"),
        (Self::ClockBelowReads, "the clock is never below an acknowledged record"),
        (Self::UnknownSaidNotApplied, "a client is told which failure it is"),
        (Self::InsistsOnHolder, "no minority stalls a client"),
        (Self::LateHelloCounts, "no minority stalls a client"),
        (Self::ConditionalTakesFreshStamp, "a conditional write stands right above its base"),
        (Self::BaseNotSettled, "nothing is built on a record that may not be chosen"),
        (Self::BaseAboveBallot, "a conditional write stands right above its base"),
        (Self::FailsUnsettled, "a failure is true of a settled record"),
        (Self::LatecomersAreJudged, "a failure is true of a settled record"),
        (Self::LookFailsUnsettled, "a failure is true of a settled record"),
        (Self::LookFailsResend, "a client is told which failure it is"),
        (Self::RecentIsIgnored, "each request takes effect once"),
        (Self::RecentFloorIgnored, "each request takes effect once"),
        (Self::AddsBelowSince, "each request takes effect once"),
        (Self::RunsAgainOnNewBase, "each request takes effect once"),
        (Self::ResendSaysFailed, "a client is told which failure it is"),
        (Self::StoresUnchosen, "only chosen records are stored"),
        (Self::SettlingChangesVersion, "a version is given once"),
        (Self::AcceptUnchecked, "a promise is kept"),
        (Self::EpochFloorIsForgotten, "a promise is kept"),
        (Self::PromiseBeforeEpoch, "a promise is kept"),
        (Self::PromiseOvertakesBatch, "a promise shows all that was accepted"),
        (Self::StorePromisesNothing, "a promise is kept"),
        (Self::OneReadIsCalledCurrent, "a client never goes backwards"),
        (Self::BeatenIsNotTold, "a watch is told every write"),
        (Self::WatchReadsAnyMajority, "a watch is told every write"),
        (Self::ResubscribedCounts, "a watch is told every write"),
        (Self::CursorAheadOfTold, "a watch that goes on misses nothing"),
        (Self::CursorAheadOfSecondRead, "a watch that goes on misses nothing"),
        (Self::WatchTellsUnread, "a watch is told what happened"),
        (Self::WatchWithoutMajority, "a watch is told every write"),
        (Self::WatchGoesBack, "a watch is told of a key in order"),
        (Self::ListNotBoundToWatch, "a list and its watch miss no write"),
        (Self::BoundListTakesMajority, "a list and its watch miss no write"),
        (Self::ChangeBesidePageIsLost, "a list and its watch miss no write"),
        (Self::DueIsAbsent, "a value expires for everybody at one moment"),
        (Self::ExpiryDeletesPlainly, "an expiry never deletes a newer record"),
        (Self::ExpiryOfAnotherVersion, "an expiry never deletes a newer record"),
        (Self::DueUnsettled, "a read answers what a majority holds, whatever expires"),
        (Self::AgeUnclamped, "a value lives as long as its time to live"),
        (Self::AgeByKey, "a value lives as long as its time to live"),
        (Self::QuietRestartIsMissed, "after a failure nobody has to act"),
        (Self::IndexInAnotherBatch, "no record without its entry in the index"),
        (Self::ListWithoutMajorityOfASlot, "a list misses no acknowledged key"),
        (Self::ListBeyondShortestPage, "a list misses no acknowledged key"),
        (Self::ListOmitsTombstones, "an absence is settled like a value"),
        (Self::ListTakesGreatest, "a list reads each key linearizably"),
        (Self::DropAtOne, "a dropped table is gone for everybody"),
        (Self::DropOfOneSlot, "a dropped table is gone for everybody"),
        (Self::DropIsVolatile, "a dropped table is gone for everybody"),
        (Self::DeletesAnyRecord, "a name is freed by the end of its drop"),
        (Self::RefusedIsMissing, "a refusal says nothing of a key"),
        (Self::DroppingIsMissing, "no such table means that its record is absent"),
        (Self::CreatedWhileDropping, "a name is freed by the end of its drop"),
        (Self::VersionWithoutId, "a version is of a table's id and a key"),
        (Self::RetriedUnderNewId, "a write never goes on in another table"),
        (Self::AdditionLosesTtl, "a value lives as long as its time to live"),
        (Self::AdditionKeepsTtl, "a value lives as long as its time to live"),
        (Self::AdditionRenewsTtl, "a value lives as long as its time to live"),
        (Self::AdditionToExpired, "a value lives as long as its time to live"),
        (Self::ListShowsTag, "a version is given once"),
        (Self::ChangeBesideCountIsLost, "a leaf is the sum over the durable records"),
        (Self::LeafKeepsReplaced, "a leaf is the sum over the durable records"),
        (Self::CleaningKeepsLeaf, "a leaf is the sum over the durable records"),
        (Self::LeavesOutliveFailure, "a leaf is the sum over the durable records"),
        (Self::RepairSkipsReplica, "replicas converge without a read"),
        (Self::RepairSpreadsUnchosen, "only chosen records are stored"),
        (Self::NoFence, "what is old comes back from nowhere"),
        (Self::FenceIsOwnClock, "no minority stalls a client"),
        (Self::FenceAtMajority, "a deletion is forgotten once all replicas have it"),
        (Self::FenceIsVolatile, "what is old comes back from nowhere"),
        (Self::FenceOvertakesBatch, "a deletion is forgotten once all replicas have it"),
        (Self::FenceLetsBallotsPass, "what is old comes back from nowhere"),
        (Self::FenceStopsRepair, "no minority stalls a client"),
        (Self::FencedCountsAsBeaten, "what is old comes back from nowhere"),
        (Self::PullFromMajority, "a deletion is forgotten once all replicas have it"),
        (Self::SyncSpreadsUnchosen, "only chosen records are stored"),
        (Self::RecordsAreNotBroughtLevel, "a deletion is forgotten once all replicas have it"),
        (Self::RepairIgnoresSeal, "what is old comes back from nowhere"),
        (Self::SealJudgesHigh, "what is old comes back from nowhere"),
        (Self::AcceptBelowSeal, "what is old comes back from nowhere"),
        (Self::AbsenceToldUnsealed, "a version is given once"),
        (Self::WritesBackBelowSeal, "what is old comes back from nowhere"),
        (Self::SealNotSettled, "nothing is built on a record that may not be chosen"),
        (Self::NothingIsLifted, "a conditional write stands above the seal"),
        (Self::LiftsAbsenceOnly, "a conditional write stands above the seal"),
        (Self::ForgottenStaysInLeaf, "a leaf is the sum over the durable records"),
        (Self::NoJointQuorum, "while members change, a quorum is one of both lists"),
        (Self::OldNumberIsServed, "requests and answers count under one configuration"),
        (Self::AnswerBearsTheNumberAsked, "requests and answers count under one configuration"),
        (Self::GainedSlotsKeepData, "a slot that a node gains is empty first"),
        (Self::EmptiedOnlyOnce, "a slot that a node gains is empty first"),
        (Self::NewStampOnChange, "a write keeps its stamp when members change"),
        (Self::ReadKeepsItsRound, "a read begins anew when members change"),
        (Self::ConfigWithoutPrepare, "each number has one configuration"),
        (Self::ConfigIgnoresAccepted, "each number has one configuration"),
        (Self::NoFloors, "what is old comes back from nowhere"),
        (Self::SealNotHandedOver, "what is old comes back from nowhere"),
        (Self::CopyFromOne, "a slot is taken over from a majority of its old replicas"),
        (Self::CopyRaw, "only chosen records are stored"),
        (Self::ShrinkWithoutDrops, "a dropped table is gone for everybody"),
        (Self::ShrinkWithoutCopy, "a smaller majority has what the larger one had"),
        (Self::SealsWhileTakingOver, "what is old comes back from nowhere"),
        (Self::DropsWhileJoint, "a deletion is forgotten once all replicas have it"),
        (Self::CommitBeforeComplete, "a change ends once all have taken over their slots"),
        (Self::CommitWithOneComplete, "a change ends once all have taken over their slots"),
        (Self::ListAnswersForFresh, "a list misses no acknowledged key"),
        (Self::OtherSitesKeepPlacement, "all nodes place a slot alike"),
        (Self::ZonesAreIgnored, "replicas lie in distinct zones as far as there are enough"),
        (Self::BackupFromOneReplica, "a backup has each acknowledged write, or a later one"),
        (Self::RestoreBelowOldClock, "a version is given once"),
        (Self::JoinsBelowFloor, "a version is given once"),
    ];

    /// Those of deletions that are forgotten. They need late messages beside whole rounds.
    pub const OF_FORGETTING: [Self; 20] = [
        Self::NoFence,
        Self::FenceIsOwnClock,
        Self::FenceAtMajority,
        Self::FenceIsVolatile,
        Self::FenceOvertakesBatch,
        Self::FenceLetsBallotsPass,
        Self::FenceStopsRepair,
        Self::FencedCountsAsBeaten,
        Self::PullFromMajority,
        Self::SyncSpreadsUnchosen,
        Self::RecordsAreNotBroughtLevel,
        Self::RepairIgnoresSeal,
        Self::SealJudgesHigh,
        Self::AcceptBelowSeal,
        Self::AbsenceToldUnsealed,
        Self::WritesBackBelowSeal,
        Self::SealNotSettled,
        Self::NothingIsLifted,
        Self::LiftsAbsenceOnly,
        Self::ForgottenStaysInLeaf,
    ];

    /// Those of changes of members. Only seeds whose members change can find them.
    pub const OF_MEMBERS: [Self; 20] = [
        Self::NoJointQuorum,
        Self::OldNumberIsServed,
        Self::AnswerBearsTheNumberAsked,
        Self::GainedSlotsKeepData,
        Self::EmptiedOnlyOnce,
        Self::NewStampOnChange,
        Self::ReadKeepsItsRound,
        Self::ConfigWithoutPrepare,
        Self::ConfigIgnoresAccepted,
        Self::NoFloors,
        Self::SealNotHandedOver,
        Self::CopyFromOne,
        Self::CopyRaw,
        Self::ShrinkWithoutDrops,
        Self::ShrinkWithoutCopy,
        Self::SealsWhileTakingOver,
        Self::DropsWhileJoint,
        Self::CommitBeforeComplete,
        Self::CommitWithOneComplete,
        Self::ListAnswersForFresh,
    ];

    /// Those of weights and zones. Only seeds that change these can find them.
    pub const OF_SITES: [Self; 1] = [Self::OtherSitesKeepPlacement];

    /// Those of created tables. What uses the default table alone cannot find them.
    pub const OF_TABLES: [Self; 9] = [
        Self::DropAtOne,
        Self::DropOfOneSlot,
        Self::DropIsVolatile,
        Self::DeletesAnyRecord,
        Self::RefusedIsMissing,
        Self::DroppingIsMissing,
        Self::CreatedWhileDropping,
        Self::VersionWithoutId,
        Self::RetriedUnderNewId,
    ];
}

/// A condition, or another value, that the protocol is right with.
///
/// - `rule!(Name, condition)`: the code goes on only where `condition` holds. The mutant takes it to hold.
/// - `rule!(Name, right, not wrong)`: the value is `right`. The mutant takes `wrong`.
#[cfg(not(feature = "mutants"))]
macro_rules! rule {
    ($mutant:ident, $condition:expr) => {
        // As a value of its own, so that a lint does not merge it with the code around it.
        std::convert::identity($condition)
    };
    ($mutant:ident, $right:expr, not $wrong:expr) => {
        $right
    };
}

/// An action that the protocol must take: `must!(Name, action)`. The mutant leaves it out.
#[cfg(all(feature = "server", not(feature = "mutants")))]
macro_rules! must {
    ($mutant:ident, $action:expr) => {
        $action
    };
}

#[cfg(feature = "mutants")]
macro_rules! rule {
    ($mutant:ident, $condition:expr) => {
        $crate::mutants::is_on($crate::mutants::Mutant::$mutant) || $condition
    };
    ($mutant:ident, $right:expr, not $wrong:expr) => {
        if $crate::mutants::is_on($crate::mutants::Mutant::$mutant) { $wrong } else { $right }
    };
}

#[cfg(feature = "mutants")]
macro_rules! must {
    ($mutant:ident, $action:expr) => {
        if !$crate::mutants::is_on($crate::mutants::Mutant::$mutant) {
            $action;
        }
    };
}

#[cfg(feature = "server")]
pub(crate) use must;
pub(crate) use rule;

#[cfg(feature = "mutants")]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Breaks this rule, and no other, on this thread.
#[cfg(feature = "mutants")]
pub fn turn_on(mutant: Option<Mutant>) {
    ON.set(mutant);
}

/// Whether this rule is broken.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

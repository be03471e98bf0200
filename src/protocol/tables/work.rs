//! Tables are created and dropped, each step an ordinary operation on the record of the name.
//!
//! To create: no record (or a deleted one), then a new id, then the record, if there is still none. To drop: the record says
//! that the table is being dropped; the drop is durable at a majority of the replicas of every slot; the record is deleted,
//! if it still says that. Anybody may take the next step of a drop, and whoever finds one under way does.
//!
//! Invariants: an id is used once, because the counter of ids only rises, and an addition of unknown outcome is not used.
//! While a record says that its table is being dropped, it is followed by nothing but its deletion.

use crate::limits::TABLE_HELP_DEADLINE;
use crate::mutants::rule;
use crate::protocol::io::{Command, Failure, QuorumReport, Reply, RequestId, Time};
use crate::types::{
    AgedRecord, Change, ChangeRequest, Checksum, Condition, Content, Key, TableId, TableName, TableRecord,
    TableSettings, TableState, Version,
};

use super::names::record_of;
use super::state::{Goal, Job, Step, Tables, TablesCtx, TaskFor};

impl Tables {
    /// Creates a table.
    pub(super) fn create(
        &mut self,
        id: RequestId,
        deadline: Time,
        name: TableName,
        settings: TableSettings,
        ctx: &mut TablesCtx<'_>,
    ) {
        self.begin_job(name, Goal::Create(id, settings), deadline, ctx);
    }

    /// Drops a table.
    pub(super) fn drop_table(&mut self, id: RequestId, deadline: Time, name: TableName, ctx: &mut TablesCtx<'_>) {
        self.begin_job(name, Goal::Drop(id), deadline, ctx);
    }

    /// Goes on with a drop that was found under way, unless this node does already.
    pub(super) fn help(&mut self, name: &TableName, ctx: &mut TablesCtx<'_>) {
        let is_at_it = |job: &Job| job.name == *name && matches!(job.goal, Goal::Help | Goal::Drop(_));
        if !self.jobs.values().any(is_at_it) {
            let deadline = ctx.now().after(TABLE_HELP_DEADLINE);
            self.begin_job(name.clone(), Goal::Help, deadline, ctx);
        }
    }

    fn begin_job(&mut self, name: TableName, goal: Goal, deadline: Time, ctx: &mut TablesCtx<'_>) {
        let number = self.next_number();
        self.jobs.insert(number, Job { name, goal, deadline, step: Step::Read });
        self.read(number, ctx);
    }

    fn read(&mut self, number: u64, ctx: &mut TablesCtx<'_>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.step = Step::Read;
        let (deadline, key) = (job.deadline, job.name.key());
        self.begin(TaskFor::Job(number), deadline, Command::Get { key }, ctx);
    }

    /// The operation of a job's present step has ended.
    pub(super) fn go_on(&mut self, number: u64, reply: Reply, ctx: &mut TablesCtx<'_>) {
        let Some(job) = self.jobs.get(&number) else { return };
        match (job.step.clone(), reply) {
            (Step::Read, Reply::Record(record)) => {
                let version = record.as_ref().map_or_else(Version::absent, AgedRecord::version);
                self.judge(number, record_of(record.as_ref()), version, ctx);
            }
            (Step::Draw(version), Reply::Added { sum, .. }) => match TableId::of_creation(sum) {
                Some(id) => self.write_record(number, id, version, ctx),
                None => self.end(number, Reply::Failed(Failure::TooManyTables), ctx),
            },
            // Whether or not the counter was raised: the id is given to nobody.
            (Step::Draw(_), Reply::Failed(Failure::OutcomeUnknown(report))) => {
                self.end(number, Reply::Failed(Failure::NotApplied(report)), ctx);
            }
            // Others have drawn so many since that the key does not tell.
            (Step::Draw(version), Reply::Failed(Failure::OutcomeForgotten)) => self.draw(number, version, ctx),
            (Step::Create(record), Reply::Set(_)) => {
                self.remember(job.name.clone(), record);
                self.end(number, Reply::Table { table: record, is_new: true }, ctx);
            }
            (Step::Mark(record), Reply::Set(version)) => {
                self.names.remove(&job.name.clone());
                self.send_drop(number, record, version, ctx);
            }
            // Where others have changed the record since, it is not the one of this drop any more.
            (
                Step::Delete,
                Reply::Set(_) | Reply::Failed(Failure::ConditionFailed { .. } | Failure::OutcomeForgotten),
            ) => {
                if matches!(job.goal, Goal::Create(..)) {
                    self.read(number, ctx);
                } else {
                    self.end(number, Reply::Dropped, ctx);
                }
            }
            // Somebody else was faster.
            (Step::Create(_) | Step::Mark(_), Reply::Failed(Failure::ConditionFailed { .. })) => self.read(number, ctx),
            // The table is gone for everybody, and whether its name is free is found out by the next who uses it.
            (Step::Delete, Reply::Failed(failure)) => self.end_after_mark(number, failure, ctx),
            (Step::Read | Step::Draw(_), Reply::Failed(failure)) => {
                let failure = match failure {
                    Failure::NoQuorum(report) => Failure::NotApplied(report),
                    failure => failure,
                };
                self.end(number, Reply::Failed(failure), ctx);
            }
            (_, Reply::Failed(failure)) => self.end(number, Reply::Failed(failure), ctx),
            (step, reply) => unreachable!("{step:?} is not answered with {reply:?}"),
        }
    }

    /// Goes on from what the record says.
    fn judge(&mut self, number: u64, found: Option<TableRecord>, version: Version, ctx: &mut TablesCtx<'_>) {
        let Some(job) = self.jobs.get(&number) else { return };
        match (&job.goal, found) {
            (Goal::Create(..), Some(record @ TableRecord { state: TableState::Live, .. })) => {
                self.end(number, Reply::Table { table: record, is_new: false }, ctx);
            }
            (Goal::Create(..), None) => self.draw(number, version, ctx),
            (Goal::Create(..), Some(_)) if rule!(CreatedWhileDropping, false, not true) => {
                self.draw(number, version, ctx);
            }
            (_, Some(record @ TableRecord { state: TableState::Dropping, .. })) => {
                self.send_drop(number, record, version, ctx);
            }
            (Goal::Drop(_), Some(record)) => {
                let marked = TableRecord { state: TableState::Dropping, ..record };
                self.write(number, Step::Mark(marked), Condition::Version(version), marked.content(), ctx);
            }
            (Goal::Drop(_), None) => self.end(number, Reply::Failed(Failure::NoTable), ctx),
            (Goal::Help, _) => self.end(number, Reply::Dropped, ctx),
        }
    }

    fn draw(&mut self, number: u64, version: Version, ctx: &mut TablesCtx<'_>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.step = Step::Draw(version);
        let (deadline, key) = (job.deadline, TableId::creations_key());
        let change = Change::Add { delta: 1, since: None, ttl: None, keeps_ttl: false };
        self.change(number, deadline, key, change, ctx);
    }

    fn write_record(&mut self, number: u64, id: TableId, version: Version, ctx: &mut TablesCtx<'_>) {
        let Some(Job { goal: Goal::Create(_, settings), .. }) = self.jobs.get(&number) else { return };
        let record = TableRecord { id, state: TableState::Live, settings: *settings };
        self.write(number, Step::Create(record), Condition::Version(version), record.content(), ctx);
    }

    fn send_drop(&mut self, number: u64, record: TableRecord, version: Version, ctx: &mut TablesCtx<'_>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.step = Step::Round(record, version);
        let deadline = job.deadline;
        self.begin_round(record.id, number, deadline, ctx);
    }

    /// The drop is durable at a majority of the replicas of every slot.
    pub(super) fn round_done(&mut self, number: u64, ctx: &mut TablesCtx<'_>) {
        let Some(Job { step: Step::Round(_, version), .. }) = self.jobs.get(&number) else { return };
        let condition = rule!(DeletesAnyRecord, Condition::Version(version.clone()), not Condition::Present);
        self.write(number, Step::Delete, condition, Content::Tombstone, ctx);
    }

    /// The drop did not reach a majority of the replicas of every slot in time.
    pub(super) fn round_failed(&mut self, number: u64, report: QuorumReport, ctx: &mut TablesCtx<'_>) {
        self.end_after_mark(number, Failure::OutcomeUnknown(report), ctx);
    }

    /// Ends a job whose drop has begun and is not over.
    fn end_after_mark(&mut self, number: u64, failure: Failure, ctx: &mut TablesCtx<'_>) {
        let Some(job) = self.jobs.get(&number) else { return };
        let failure = match (&job.goal, failure) {
            // It was to create a table, and has not begun to.
            (Goal::Create(..), Failure::OutcomeUnknown(report)) => Failure::NotApplied(report),
            (Goal::Drop(_), Failure::NotApplied(report)) => Failure::OutcomeUnknown(report),
            (_, failure) => failure,
        };
        self.end(number, Reply::Failed(failure), ctx);
    }

    /// Writes the record of the name if a condition holds.
    fn write(&mut self, number: u64, step: Step, condition: Condition, content: Content, ctx: &mut TablesCtx<'_>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.step = step;
        let (deadline, key) = (job.deadline, job.name.key());
        let checksum = Checksum::of_write(&key, &content, None);
        let change = Change::Write { condition, content, ttl: None, checksum };
        self.change(number, deadline, key, change, ctx);
    }

    fn change(&mut self, number: u64, deadline: Time, key: Key, change: Change, ctx: &mut TablesCtx<'_>) {
        let token = ctx.coordinator.token(&ctx.shared);
        let request = ChangeRequest { change, token, is_resend: false };
        self.begin(TaskFor::Job(number), deadline, Command::Change { key, request }, ctx);
    }

    fn end(&mut self, number: u64, reply: Reply, ctx: &mut TablesCtx<'_>) {
        match self.jobs.remove(&number) {
            Some(Job { goal: Goal::Create(id, _) | Goal::Drop(id), .. }) => ctx.reply(id, reply),
            Some(Job { goal: Goal::Help, .. }) | None => {}
        }
    }
}

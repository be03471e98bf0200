//! The judgement of the histories of a round.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::Run;
use crate::asking::Kind as KeyKind;
use crate::clients::{Account, Workload};
use crate::judge::operations;
use crate::tables::TableAccount;
use crate::testkit::checker::{HARD_STEPS_MAX, Operation, STEPS_MAX, Verdict, describe, shorten};
use crate::testkit::cluster::write;
use crate::testkit::requests;

/// How long porcupine may take for one history.
const PORCUPINE_TIME_MAX: Duration = Duration::from_secs(5);

impl Run {
    /// Checks the history of each key.
    pub(super) async fn judge(&mut self, workload: &Workload, account: Account) -> Result<(), String> {
        for (outcome, count) in &account.outcomes {
            self.counters.add(outcome, usize::try_from(*count).expect("it is small"));
        }
        if let Some(defect) = account.defects.first() {
            return Err(format!("{} answers that no node may give; the first: {defect}", account.defects.len()));
        }
        let mut judged = Vec::new();
        for (number, history) in &account.histories {
            let (key, kind) = (workload.key(*number), KeyKind::of(*number));
            self.counters.add("histories", 1);
            let operations = operations(history, kind).map_err(|what| format!("{key}: {what}"))?;
            self.counters.at_least("operations of the longest history", operations.len());
            let checked = tokio::task::spawn_blocking(move || {
                let judged = requests::judge(&operations, STEPS_MAX);
                let is_hard = judged.0 == Verdict::NoVerdict;
                (if is_hard { requests::judge(&operations, HARD_STEPS_MAX) } else { judged }, is_hard, operations)
            });
            let ((verdict, part), is_hard, operations) = checked.await.expect("the checker does not panic");
            self.counters.add("histories that took long to judge", usize::from(is_hard));
            if verdict != Verdict::Linearizable {
                let shorter = tokio::task::spawn_blocking(move || {
                    let is_wrong = verdict == Verdict::NotLinearizable;
                    (if is_wrong { shorten(&operations, STEPS_MAX) } else { Vec::new() }, operations)
                });
                let (shorter, operations) = shorter.await.expect("the checker does not panic");
                return Err(self.complain(&key, verdict, shorter, operations));
            }
            judged.push(part);
        }
        self.cross_check(workload, account.histories.keys().copied().collect(), judged).await
    }

    /// Checks the histories of created tables.
    pub(super) async fn judge_tables(&mut self, workload: &Arc<Workload>, tables: TableAccount) -> Result<(), String> {
        for (outcome, count) in &tables.outcomes {
            self.counters.add(outcome, *count);
        }
        let workload = Arc::clone(workload);
        let judged = tokio::task::spawn_blocking(move || tables.judge(&workload)).await;
        self.counters.add("histories of created tables", judged.expect("the checker does not panic")?);
        Ok(())
    }

    /// Lets porcupine judge the same histories: it may have no verdict in time, and never another one.
    async fn cross_check(
        &mut self,
        workload: &Workload,
        keys: Vec<usize>,
        judged: Vec<Vec<Operation>>,
    ) -> Result<(), String> {
        let Some(porcupine) = self.porcupine.clone() else { return Ok(()) };
        let asked = tokio::task::spawn_blocking(move || (porcupine.judge(&judged, PORCUPINE_TIME_MAX), judged));
        let (verdicts, judged) = asked.await.expect("porcupine answers");
        for ((verdict, key), history) in verdicts.into_iter().zip(keys).zip(judged) {
            match verdict {
                Verdict::Linearizable => self.counters.add("histories that porcupine finds linearizable too", 1),
                Verdict::NoVerdict => self.counters.add("histories without a verdict of porcupine in time", 1),
                Verdict::NotLinearizable => {
                    let complaint = self.complain(&workload.key(key), Verdict::NoVerdict, Vec::new(), history);
                    return Err(format!("porcupine finds a history not linearizable, and we do: {complaint}"));
                }
            }
        }
        Ok(())
    }

    fn complain(
        &self,
        key: &str,
        verdict: Verdict,
        mut shorter: Vec<Operation>,
        mut history: Vec<Operation>,
    ) -> String {
        let by_time = |operation: &Operation| operation.invoked;
        shorter.sort_by_key(by_time);
        history.sort_by_key(by_time);
        let whole: Vec<String> = history.iter().map(describe).collect();
        let file = self.dir.path().join(format!("history-{key}.txt"));
        write(&file, &whole.join("\n"));
        let mut text = format!("the history of {key} is {verdict:?}; all of it is in {}", file.display());
        if verdict == Verdict::NotLinearizable {
            text.push_str("; shortened, in microseconds:");
            for operation in &shorter {
                write!(text, "\n  {}", describe(operation)).expect("a string takes text");
            }
        }
        text
    }
}

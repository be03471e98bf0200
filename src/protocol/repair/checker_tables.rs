//! The history of the tables of one name: what must be found, and what must not.

use quorate::types::TableId;

use crate::testkit::checker::{STEPS_MAX, Verdict, check};
use crate::testkit::tables::{Heard, Word, history};

fn heard(invoked: u64, returned: u64, word: Word) -> Heard {
    Heard { client: 0, invoked, returned: Some(returned), word }
}

fn verdict(heard: &[Heard]) -> Verdict {
    check(&history(heard).expect("each table has one creator"), STEPS_MAX)
}

#[test]
fn dropped_table_answers_nobody_and_two_tables_are_never_there_together() {
    let (first, second) = (TableId(16), TableId(17));
    let created = heard(0, 10, Word::Created(Some(first)));
    let dropped = heard(20, 30, Word::Dropped);
    let again = heard(40, 50, Word::Created(Some(second)));
    let life = [created, heard(12, 14, Word::Is(first)), dropped, heard(32, 34, Word::IsMissing), again];
    assert_eq!(verdict(&life), Verdict::Linearizable);
    for wrong in [
        heard(32, 36, Word::Is(first)),
        heard(12, 16, Word::IsMissing),
        heard(52, 54, Word::IsMissing),
        heard(60, 62, Word::Is(first)),
    ] {
        assert_eq!(verdict(&[&life[..], &[wrong]].concat()), Verdict::NotLinearizable, "{wrong:?}");
    }
    // It was called before the drop was answered.
    assert_eq!(verdict(&[&life[..], &[heard(25, 36, Word::Is(first))]].concat()), Verdict::Linearizable);
    assert_eq!(verdict(&[created, again]), Verdict::NotLinearizable, "nobody has dropped the first");
}

#[test]
fn table_has_one_creator() {
    let id = TableId(16);
    assert!(history(&[heard(0, 10, Word::Is(id))]).is_err_and(|what| what.contains("nobody")));
    let twice = [heard(0, 10, Word::Created(Some(id))), heard(20, 30, Word::Created(Some(id)))];
    assert!(history(&twice).is_err_and(|what| what.contains("twice")));
    let unknown = [heard(20, 30, Word::Is(id)), heard(0, 10, Word::MayHaveCreated)];
    assert_eq!(verdict(&unknown), Verdict::Linearizable);
    let late = [heard(0, 10, Word::Is(id)), heard(20, 30, Word::MayHaveCreated)];
    assert_eq!(verdict(&late), Verdict::NotLinearizable, "it was seen before anybody created it");
}

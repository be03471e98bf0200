//! The test of the tests: each is played with its rule broken, and must fail.

use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, PoisonError};

use quorate::mutants::{Mutant, turn_on};

/// The hook of panics is set for the whole process, so that one table is made at a time.
static ONE_TABLE: Mutex<()> = Mutex::new(());

/// Each mutant, and a test that it is to be found by.
macro_rules! tests {
    ($($mutant:ident: $test:ident,)*) => {
        &[$((quorate::mutants::Mutant::$mutant, stringify!($test), $test)),*]
    };
}

pub(crate) use tests;

/// Plays each test with its rule broken, and prints what it finds.
///
/// # Panics
/// When a test passes although its rule is broken.
pub fn each_is_found(tests: &[(Mutant, &str, fn())]) {
    let _one = ONE_TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    println!("| mutant | found by the test | as |");
    println!("|---|---|---|");
    // The output of the tests themselves would bury the table.
    set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (mutant, name, test) in tests {
        turn_on(Some(*mutant));
        let found = catch_unwind(*test);
        turn_on(None);
        match found {
            Ok(()) => missed.push((mutant, name)),
            Err(panic) => {
                let what = panic.downcast_ref::<String>().map(String::as_str);
                let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                println!("| {mutant:?} | {name} | {} |", what.lines().next().unwrap_or_default());
            }
        }
    }
    let _ = take_hook();
    assert!(missed.is_empty(), "nothing found by {missed:?}");
}

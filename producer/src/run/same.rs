//! Documents of the same content, asked in the same way: the first one is asked about, the others
//! share its outcome.

use std::collections::HashMap;
use std::mem;

use crate::digest::short;
use crate::rows::Row;

/// Finished rows that are remembered: at least half as many, the ones met last.
const REMEMBERED_MAX: usize = 50_000;

/// What is under way, and what was finished lately, by key.
#[derive(Debug, Default)]
pub(super) struct Same {
    /// Names of those that wait for the one under way.
    under_way: HashMap<u128, Vec<String>>,
    waiting: usize,
    /// Finished rows: new ones and those met again, until they are half of all.
    young: HashMap<u128, Row>,
    /// What was young before; forgotten when the young ones grow old.
    old: HashMap<u128, Row>,
}

/// What to do with a document.
#[derive(Debug, PartialEq)]
pub(super) enum Meeting {
    /// Nobody asked before: ask.
    First,
    /// It gets its row when the first one does.
    Waits,
    /// Its row.
    Done(Box<Row>),
}

impl Same {
    /// Meets a document by its name and the key of its work.
    pub(super) fn meet(&mut self, name: &str, key: &str) -> Meeting {
        let key = short(key.as_bytes());
        if let Some(names) = self.under_way.get_mut(&key) {
            names.push(name.to_owned());
            self.waiting += 1;
            return Meeting::Waits;
        }
        if let Some(row) = self.old.remove(&key) {
            self.remember(key, row);
        }
        if let Some(row) = self.young.get(&key) {
            return Meeting::Done(Box::new(row.shared_with(name.to_owned())));
        }
        self.under_way.insert(key, Vec::new());
        Meeting::First
    }

    /// The first one has its row: the rows of those that waited for it.
    pub(super) fn finished(&mut self, row: &Row) -> Vec<Row> {
        let Some(key) = row.key.as_ref().map(|key| short(key.as_bytes())) else {
            return Vec::new();
        };
        let names = self.under_way.remove(&key).unwrap_or_default();
        self.waiting -= names.len();
        // A failure may not come again.
        if row.is_done() {
            self.remember(key, row.clone());
        }
        names
            .into_iter()
            .map(|name| row.shared_with(name))
            .collect()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    fn remember(&mut self, key: u128, row: Row) {
        if self.young.len() >= REMEMBERED_MAX / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::{Failure, FailureCode, Status};

    fn done(name: &str, key: &str) -> Row {
        Row {
            text: Some("caption".to_owned()),
            status: Status::Succeeded,
            failure: None,
            key: Some(key.to_owned()),
            ..failed(name, key)
        }
    }

    fn failed(name: &str, key: &str) -> Row {
        let failure = Failure::new(FailureCode::MediaInvalid, format!("{name}: broken"));
        Row {
            key: Some(key.to_owned()),
            ..Row::refused(name.to_owned(), failure)
        }
    }

    #[test]
    fn the_others_share_what_the_first_one_gets() {
        let mut same = Same::default();
        assert_eq!(same.meet("a", "k"), Meeting::First);
        assert_eq!(same.meet("b", "k"), Meeting::Waits);
        assert_eq!(same.meet("c", "other"), Meeting::First);
        assert_eq!(same.waiting(), 1);
        let rows = same.finished(&done("a", "k"));
        assert_eq!(same.waiting(), 0);
        let shared = |name: &str| Row {
            name: name.to_owned(),
            same_as: Some("a".to_owned()),
            ..done("a", "k")
        };
        assert_eq!(rows, [shared("b")]);
        let Meeting::Done(row) = same.meet("d", "k") else {
            panic!("it was asked before");
        };
        assert_eq!(*row, shared("d"));
    }

    #[test]
    fn failures_are_shared_and_then_tried_again() {
        let mut same = Same::default();
        same.meet("a", "k");
        same.meet("b", "k");
        let rows = same.finished(&failed("a", "k"));
        assert_eq!(
            rows[0].failure.as_ref().unwrap().message,
            "b is the same as a: a: broken"
        );
        assert_eq!(same.meet("c", "k"), Meeting::First);
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_met_again() {
        let mut same = Same::default();
        same.meet("often", "often");
        same.finished(&done("often", "often"));
        for number in 0..2 * REMEMBERED_MAX {
            let key = number.to_string();
            assert_eq!(same.meet(&key, &key), Meeting::First);
            same.finished(&done(&key, &key));
            assert!(matches!(same.meet("again", "often"), Meeting::Done(_)));
            assert!(same.young.len() + same.old.len() <= REMEMBERED_MAX);
        }
        assert_eq!(same.meet("again", "0"), Meeting::First);
    }
}

//! Allowances: what may be taken within a sliding window.

use std::time::Duration;

use futures::future::join_all;

use super::{Case, ResultsEnvironment, cases, until};
use crate::results::{Allowance, Results};

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        what_was_taken_is_there_again_after_its_window,
        an_allowance_that_is_looked_at_stays_as_it_is,
        many_take_at_once_and_no_more_than_there_is,
    ]
}

fn allowance(name: &str, limit: u64, window: Duration) -> Allowance {
    Allowance {
        name: name.to_owned(),
        limit,
        window,
    }
}

async fn what_was_taken_is_there_again_after_its_window<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let of_three = allowance("a", 3, Duration::from_secs(3));
    assert_eq!(results.take(&of_three, 2).await.unwrap().remaining, 1);
    let refused = other.take(&of_three, 2).await.unwrap();
    assert!(!refused.allowed, "{refused:?}");
    assert_eq!(refused.remaining, 1, "what is refused takes nothing");
    assert!(refused.enough_after > Duration::ZERO, "{refused:?}");
    assert!(refused.enough_after <= of_three.window + Duration::from_millis(51));
    assert!(other.take(&of_three, 1).await.unwrap().allowed);
    until(|| async { results.take(&of_three, 2).await.unwrap().allowed }).await;
    until(|| async {
        let seen = results.take(&of_three, 0).await.unwrap();
        (seen.remaining, seen.whole_after) == (3, Duration::ZERO)
    })
    .await;
}

async fn an_allowance_that_is_looked_at_stays_as_it_is<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (one, two) = ("one", "two");
    let hour = Duration::from_hours(1);
    for _ in 0..3 {
        let seen = results.take(&allowance(one, 5, hour), 0).await.unwrap();
        assert_eq!((seen.allowed, seen.remaining), (true, 5));
        assert_eq!(seen.whole_after, Duration::ZERO);
    }
    let taken = results.take(&allowance(one, 5, hour), 5).await.unwrap();
    assert_eq!((taken.allowed, taken.remaining), (true, 0));
    assert!(taken.whole_after > Duration::from_mins(59), "{taken:?}");
    let others = results.take(&allowance(two, 5, hour), 1).await.unwrap();
    assert_eq!(others.remaining, 4, "allowances are apart by name");
    let lowered = results.take(&allowance(one, 2, hour), 0).await.unwrap();
    assert_eq!(lowered.remaining, 0, "the limit is the caller's");
}

async fn many_take_at_once_and_no_more_than_there_is<E: ResultsEnvironment>(environment: &E) {
    let handles = join_all((0..4).map(|_| environment.open())).await;
    let of_ten = allowance("a", 10, Duration::from_hours(1));
    let taking = (0..40).map(|number| handles[number % handles.len()].take(&of_ten, 1));
    let taken = join_all(taking).await;
    let allowed = taken.iter().filter(|taken| taken.as_ref().unwrap().allowed);
    assert_eq!(allowed.count(), 10);
}

//! Drafts change how many steps an answer takes, and nothing else.

use super::*;

#[test]
fn drafts_save_steps_and_do_not_change_the_output() {
    let setup = Setup {
        vocab: 2,
        draft_tokens_max: 8,
        ..ROOMY
    };
    let mut driver = Driver::new(setup);
    let prompt = prompt(1, 40);
    let id = driver.submit(Class::Bulk, &prompt, 300);
    driver.run();
    assert_eq!(driver.finished[&id], alone_in(setup, &prompt, 300, &[]));
    let counts = driver.scheduler.counts();
    assert!(
        0 < counts.accepted_tokens && counts.accepted_tokens < counts.drafted_tokens,
        "{counts:?}"
    );
    let steps = driver.spans.len() as u64;
    assert_eq!(counts.accepted_tokens, 300 - steps, "{counts:?}");
}

#[test]
fn drafts_take_only_the_rows_of_free_slots() {
    let setup = Setup {
        vocab: 2,
        draft_tokens_max: 8,
        slots_max: 4,
        ..ROOMY
    };
    for (sequences, drafted) in [(4, false), (3, true)] {
        let mut driver = Driver::new(setup);
        for seed in 1..=sequences {
            driver.submit(Class::Bulk, &prompt(seed, 30), 100);
        }
        driver.step();
        driver.step();
        for _ in 0..20 {
            let plan = driver.scheduler.plan(|_| true).unwrap();
            assert!(plan.batch.tokens.len() <= 4, "{plan:?}");
            let mut logits = Logits::default();
            driver.model.forward(&plan.batch, &mut logits).unwrap();
            driver.scheduler.commit(&plan);
            for part in &plan.parts {
                driver.draw(&plan, part, &logits);
            }
        }
        assert_eq!(driver.scheduler.counts().drafted_tokens > 0, drafted);
    }
}

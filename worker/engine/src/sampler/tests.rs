//! Choices against probabilities worked out by hand, and candidates against a full sort.

use super::*;

const NEUTRAL: Sampling = Sampling {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    repetition_penalty: None,
    seed: 1,
};

fn draw_at(row: &[f32], sampling: &Sampling, history: &[TokenId]) -> TokenId {
    let mut row = row.to_vec();
    Choice {
        row: &mut row,
        sampling,
        history,
        suppressed: &[],
    }
    .draw()
    .unwrap()
}

/// Shares of each token over many positions.
fn shares(row: &[f32], sampling: &Sampling) -> Vec<f64> {
    let draws = 20_000;
    let mut shares = vec![0.0; row.len()];
    for seed in 0..draws {
        let token = draw_at(row, &Sampling { seed, ..*sampling }, &[0]);
        shares[token as usize] += 1.0 / f64::from(u32::try_from(draws).unwrap());
    }
    shares
}

#[track_caller]
fn assert_shares(row: &[f32], sampling: &Sampling, expected: &[f64]) {
    let shares = shares(row, sampling);
    let close = shares
        .iter()
        .zip(expected)
        .all(|(a, b)| (a - b).abs() < 0.012);
    assert!(close, "{shares:?}, expected {expected:?}");
}

fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

#[test]
fn greedy_takes_the_lowest_id_of_the_largest_logits() {
    assert_eq!(argmax(&[1.0, 3.0, 3.0, -1.0]), Ok(1));
    let mut wide = vec![0.0; 100_003];
    wide[70_001] = 0.5;
    wide[100_002] = 0.5;
    assert_eq!(argmax(&wide), Ok(70_001));
    assert_eq!(argmax(&[f32::NAN, f32::NAN]), Err(NotFinite));
    assert_eq!(argmax(&[f32::NEG_INFINITY]), Err(NotFinite));
    assert_eq!(argmax(&[]), Err(NotFinite));
}

#[test]
fn greedy_ignores_history_unless_a_penalty_is_asked_for() {
    let row = [2.0, 1.5, -1.0];
    assert_eq!(draw_at(&row, &Sampling::GREEDY, &[0]), 0);
    let penalised = Sampling {
        repetition_penalty: Some(1.5),
        ..Sampling::GREEDY
    };
    assert_eq!(draw_at(&row, &penalised, &[0, 0]), 1);
}

#[test]
fn the_penalty_divides_positive_and_multiplies_negative_logits_once() {
    let mut row = [2.0, -2.0, 0.0, 4.0];
    penalise(&mut row, &[0, 1, 0, 9], 2.0);
    assert_eq!(
        row.map(f32::to_bits),
        [1.0_f32, -4.0, 0.0, 4.0].map(f32::to_bits)
    );
}

#[test]
fn draws_follow_the_probabilities() {
    let row = logits(&[0.5, 0.2, 0.2, 0.1]);
    assert_shares(&row, &NEUTRAL, &[0.5, 0.2, 0.2, 0.1]);
    let top_k = Sampling {
        top_k: 2,
        ..NEUTRAL
    };
    assert_shares(&row, &top_k, &[0.714, 0.286, 0.0, 0.0]);
    // Of the top three (0.9), 0.7 of the mass is reached with the second.
    let both = Sampling {
        top_k: 3,
        top_p: 0.7,
        ..NEUTRAL
    };
    assert_shares(&row, &both, &[0.714, 0.286, 0.0, 0.0]);
    let top_p = Sampling {
        top_p: 0.75,
        ..NEUTRAL
    };
    assert_shares(&row, &top_p, &[0.556, 0.222, 0.222, 0.0]);
    let cold = Sampling {
        temperature: 0.5,
        ..NEUTRAL
    };
    assert_shares(&row, &cold, &[0.735, 0.118, 0.118, 0.029]);
    let tiny = Sampling {
        top_p: 1e-6,
        ..NEUTRAL
    };
    assert_shares(&row, &tiny, &[1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn draws_depend_on_seed_and_position_only() {
    let row = vec![0.0; 1000];
    let at =
        |seed, position: usize| draw_at(&row, &Sampling { seed, ..NEUTRAL }, &vec![3; position]);
    assert_eq!(at(7, 20), at(7, 20));
    let distinct: std::collections::HashSet<_> = (0..50).map(|p| at(7, p)).collect();
    assert!(distinct.len() > 40, "{}", distinct.len());
    assert_ne!(at(7, 20), at(8, 20));
}

#[test]
fn suppressed_tokens_are_never_chosen() {
    let mut row = [1.0, 9.0, 2.0];
    let sampling = &Sampling::GREEDY;
    let choice = Choice {
        row: &mut row,
        sampling,
        history: &[],
        suppressed: &[1, 77],
    };
    assert_eq!(choice.draw(), Ok(2));
}

#[test]
fn the_best_candidates_are_those_of_a_full_sort() {
    let row: Vec<f32> = (0..5000u32)
        .map(|i| f32::from(u16::try_from(i.wrapping_mul(2_654_435_761) >> 20).unwrap()))
        .collect();
    let mut sorted: Vec<_> = row
        .iter()
        .zip(0..)
        .map(|(&logit, token)| Candidate { logit, token })
        .collect();
    sorted.sort_by(preferred);
    for count in [0, 1, 2, 64, 255, 4999, 5000, 6000] {
        assert_eq!(
            top_candidates(&row, count),
            sorted[..count.min(5000)],
            "{count}"
        );
    }
}

#[test]
fn a_flat_distribution_has_a_wide_nucleus() {
    let row = vec![0.0; 10_000];
    let nucleus = nucleus_of_all(&row, 0.5, |logit| f64::from(logit).exp());
    assert_eq!(nucleus.len(), 5000);
}

#[test]
fn logprobs_are_those_of_the_raw_logits() {
    let row = logits(&[0.5, 0.2, 0.3]);
    let logprob = token_logprob(&row, 1, 2).unwrap();
    assert!((logprob.logprob - 0.2f32.ln()).abs() < 1e-6);
    assert_eq!(
        logprob
            .top
            .iter()
            .map(|(token, _)| *token)
            .collect::<Vec<_>>(),
        [0, 2]
    );
    assert!((logprob.top[1].1 - 0.3f32.ln()).abs() < 1e-6);
}

#[test]
fn values_out_of_range_are_named() {
    let message = Sampling {
        top_p: 0.0,
        ..NEUTRAL
    }
    .validate()
    .unwrap_err();
    assert_eq!(message, "top_p is 0, it must be above 0 and at most 1");
    assert!(
        Sampling {
            temperature: f32::NAN,
            ..NEUTRAL
        }
        .validate()
        .is_err()
    );
    assert!(
        Sampling {
            repetition_penalty: Some(0.0),
            ..NEUTRAL
        }
        .validate()
        .is_err()
    );
    assert_eq!(Sampling::GREEDY.validate(), Ok(()));
}

//! Guessing what an answer continues with, from what its prompt and the answer itself said before.
//!
//! Where the last tokens occurred earlier, what followed them then may follow now: an answer that
//! quotes, lists or transcribes its document repeats long runs of it. Guesses are computed beside
//! the token that is due and kept as far as the draws agree, so they change speed and nothing else
//! (prompt lookup decoding, Saxena 2023; a special case of Leviathan et al. 2023).

use crate::batch::TokenId;

/// How many last tokens must have occurred before. Fewer are found more often, and are wrong more
/// often.
const MATCH_TOKENS: usize = 3;

/// Up to `tokens_max` tokens that may come next: those that followed the latest earlier occurrence
/// of the last ones.
pub(super) fn propose(tokens: &[TokenId], tokens_max: usize) -> &[TokenId] {
    let Some(tail) = tokens.last_chunk::<MATCH_TOKENS>() else {
        return &[];
    };
    let earlier = &tokens[..tokens.len() - 1];
    let mut places = earlier.windows(MATCH_TOKENS);
    match places.rposition(|window| window == tail) {
        Some(place) => {
            let next = &tokens[place + MATCH_TOKENS..];
            &next[..tokens_max.min(next.len())]
        }
        None => &[],
    }
}

/// Most tokens of the next draft, after `length` and a draft of `drafted` tokens, of which the first
/// `accepted` held.
pub(super) fn next_length(length: usize, drafted: usize, accepted: usize) -> usize {
    if accepted == drafted {
        length.max(2 * drafted)
    } else {
        accepted.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_latest_occurrence_is_proposed() {
        let tokens = [1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 1, 2, 3];
        assert_eq!(propose(&tokens, 10), [5, 6, 1, 2, 3]);
        assert_eq!(propose(&tokens, 1), [5]);
        assert_eq!(propose(&tokens, 0), [0; 0]);
        assert_eq!(propose(&tokens[..11], 10), [0; 0]);
        assert_eq!(propose(&tokens[..2], 10), [0; 0]);
        assert_eq!(propose(&[7; 5], 10), [7]);
    }

    #[test]
    fn drafts_grow_while_they_hold() {
        assert_eq!(next_length(2, 2, 2), 4);
        assert_eq!(next_length(8, 1, 1), 8);
        assert_eq!(next_length(8, 8, 3), 3);
        assert_eq!(next_length(8, 8, 0), 1);
    }
}

//! The scheduler against the fake model: whatever happens around it, a sequence's output is the
//! one it has alone.

mod drafts;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::batch::{Forward, Logits};
use crate::fake::FakeForward;
use crate::image::View;
use crate::sequence::{AtomicRange, Contents, LogitsWanted};

const VOCAB: u32 = 50;

/// Where a picture lies in a prompt, and its colour, which tells it from others.
type Picture = (Range<usize>, u8);
/// Tokens of the pictures of [`every_output_is_the_one_alone`].
const PICTURE_TOKENS: usize = 8;

/// Submits, steps and collects, as the engine does.
struct Driver {
    scheduler: Scheduler,
    model: FakeForward,
    step_tokens_max: usize,
    /// Pictures of the sequences so far.
    views: HashMap<Contents, View>,
    encoded: HashSet<Contents>,
    goals: HashMap<SequenceId, usize>,
    finished: HashMap<SequenceId, Vec<TokenId>>,
    next_id: u64,
    /// Spans of all steps, to look at.
    spans: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    blocks: u32,
    window: Option<usize>,
    slots_max: usize,
    reserved: usize,
    step_tokens_max: usize,
    sharing: bool,
    draft_tokens_max: usize,
    /// Few tokens make answers that repeat themselves.
    vocab: u32,
}

const ROOMY: Setup = Setup {
    blocks: 1000,
    window: Some(40),
    slots_max: 32,
    reserved: 0,
    step_tokens_max: 100,
    sharing: true,
    draft_tokens_max: 0,
    vocab: VOCAB,
};

impl Driver {
    fn new(setup: Setup) -> Self {
        let Setup {
            blocks,
            window,
            slots_max,
            reserved,
            step_tokens_max,
            sharing,
            draft_tokens_max,
            vocab,
        } = setup;
        let mut model = FakeForward::new(vocab as usize, window);
        model.allocate(blocks as usize, blocks as usize).unwrap();
        let options = SchedulerOptions {
            slots_max,
            interactive_slots_reserved: reserved,
            step_tokens_max,
            window,
            draft_tokens_max,
        };
        let kv = KvBlocks::new(blocks, blocks, window, sharing);
        Self {
            scheduler: Scheduler::new(options, kv),
            model,
            step_tokens_max,
            views: HashMap::new(),
            encoded: HashSet::new(),
            goals: HashMap::new(),
            finished: HashMap::new(),
            next_id: 0,
            spans: Vec::new(),
        }
    }

    fn submit(&mut self, class: Class, prompt: &[TokenId], output_tokens: usize) -> SequenceId {
        self.submit_with(class, prompt, output_tokens, &[])
    }

    fn submit_with(
        &mut self,
        class: Class,
        prompt: &[TokenId],
        output_tokens: usize,
        pictures: &[Picture],
    ) -> SequenceId {
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        let mut sequence = Sequence::new(id, class, prompt.to_vec(), LogitsWanted::Last);
        for (positions, colour) in pictures {
            let view = View::new([*colour; 12]);
            sequence.atomic.push(AtomicRange {
                positions: positions.clone(),
                contents: *view.sha256(),
            });
            self.views.insert(*view.sha256(), view);
        }
        self.scheduler.submit(sequence);
        self.goals.insert(id, output_tokens);
        id
    }

    /// Encodes the next picture that is read, one a step: the others are waited for.
    fn encode(&mut self) -> bool {
        let mut ahead = self.scheduler.images_ahead();
        let missing = ahead.find(|(_, image)| !self.encoded.contains(&image.contents));
        let Some(contents) = missing.map(|(_, image)| image.contents) else {
            return false;
        };
        drop(ahead);
        self.model.encode(&[&self.views[&contents]]).unwrap();
        self.encoded.insert(contents)
    }

    /// One step; false if there was nothing to do.
    fn step(&mut self) -> bool {
        let encoded = self.encode();
        let plan = self
            .scheduler
            .plan(|contents| self.encoded.contains(contents));
        self.scheduler.check();
        let Some(plan) = plan else {
            return encoded || self.scheduler.images_ahead().next().is_some();
        };
        plan.check(self.step_tokens_max);
        self.spans.extend(
            plan.batch
                .spans
                .iter()
                .map(|s| (s.start, s.start + s.rows.len())),
        );
        let mut logits = Logits::default();
        self.model.forward(&plan.batch, &mut logits).unwrap();
        self.scheduler.commit(&plan);
        for part in plan.parts.iter().filter(|part| !part.logit_rows.is_empty()) {
            self.draw(&plan, part, &logits);
        }
        self.scheduler.check();
        true
    }

    /// Draws from the rows of a sequence, as far as they follow from one another.
    fn draw(&mut self, plan: &StepPlan, part: &Part, logits: &Logits) {
        let id = part.sequence;
        let missing = self.goals[&id] - self.scheduler.running(id).unwrap().output().len();
        let mut drawn = Vec::new();
        for (index, row) in part.logit_rows.clone().enumerate().take(missing) {
            let token = crate::sampler::argmax(logits.row(row)).unwrap();
            drawn.push(token);
            if plan.draft(part).get(index) != Some(&token) {
                break;
            }
        }
        self.scheduler.append(part, &drawn);
        if drawn.len() == missing {
            let sequence = self.scheduler.remove(id).unwrap();
            self.finished.insert(id, sequence.output().to_vec());
        }
    }

    fn run(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 100_000, "the sequences do not end");
        }
        assert_eq!(
            self.scheduler.waiting_count() + self.scheduler.running_count(),
            0
        );
        assert_eq!(self.scheduler.kv().global().held(), 0);
        assert_eq!(self.scheduler.kv().local().held(), 0);
    }
}

fn alone(window: Option<usize>, prompt: &[TokenId], output_tokens: usize) -> Vec<TokenId> {
    alone_with(window, prompt, output_tokens, &[])
}

fn alone_with(
    window: Option<usize>,
    prompt: &[TokenId],
    output_tokens: usize,
    pictures: &[Picture],
) -> Vec<TokenId> {
    alone_in(Setup { window, ..ROOMY }, prompt, output_tokens, pictures)
}

/// The output of a sequence on the model of this setup, with nothing beside it.
fn alone_in(
    setup: Setup,
    prompt: &[TokenId],
    output_tokens: usize,
    pictures: &[Picture],
) -> Vec<TokenId> {
    let Setup { window, vocab, .. } = setup;
    let step_tokens_max = 10_000;
    let mut driver = Driver::new(Setup {
        window,
        vocab,
        step_tokens_max,
        sharing: false,
        ..ROOMY
    });
    let id = driver.submit_with(Class::Bulk, prompt, output_tokens, pictures);
    driver.run();
    driver.finished.remove(&id).unwrap()
}

fn prompt(seed: u32, length: usize) -> Vec<TokenId> {
    (0u32..)
        .take(length)
        .map(|i| (i * 7 + seed * 13 + i * i * seed) % VOCAB)
        .collect()
}

#[test]
fn chunks_and_batches_do_not_change_the_output() {
    for step_tokens_max in [32, 33, 100, 1000] {
        let mut driver = Driver::new(Setup {
            step_tokens_max,
            ..ROOMY
        });
        let prompts: Vec<_> = (1..=32)
            .map(|seed| prompt(seed, seed as usize * 9))
            .collect();
        let ids: Vec<_> = prompts
            .iter()
            .map(|p| driver.submit(Class::Bulk, p, 40))
            .collect();
        driver.run();
        for (id, prompt) in ids.iter().zip(&prompts) {
            assert_eq!(driver.finished[id], alone(ROOMY.window, prompt, 40));
        }
    }
}

#[test]
fn too_few_blocks_send_sequences_back_and_do_not_change_the_output() {
    let mut driver = Driver::new(Setup {
        blocks: 12,
        ..ROOMY
    });
    let prompts: Vec<_> = (1..=8).map(|seed| prompt(seed, 40)).collect();
    let ids: Vec<_> = prompts
        .iter()
        .map(|p| driver.submit(Class::Bulk, p, 300))
        .collect();
    driver.run();
    assert!(driver.scheduler.counts().preemptions > 0);
    for (id, prompt) in ids.iter().zip(&prompts) {
        assert_eq!(driver.finished[id], alone(ROOMY.window, prompt, 300));
    }
}

#[test]
fn a_shared_prefix_is_computed_once() {
    let mut driver = Driver::new(ROOMY);
    let shared = prompt(1, 320);
    let mut ids = Vec::new();
    for seed in 2..6 {
        let prompt = [shared.clone(), prompt(seed, 20)].concat();
        ids.push((driver.submit(Class::Bulk, &prompt, 5), prompt));
        driver.run();
    }
    let counts = driver.scheduler.counts();
    assert_eq!(
        (counts.prompt_tokens, counts.cached_tokens),
        (4 * 340, 3 * 320)
    );
    for (id, prompt) in ids {
        assert_eq!(driver.finished[&id], alone(ROOMY.window, &prompt, 5));
    }
}

#[test]
fn the_same_prompt_again_still_computes_its_last_token() {
    let mut driver = Driver::new(ROOMY);
    let prompt = prompt(1, 320);
    for _ in 0..2 {
        let id = driver.submit(Class::Bulk, &prompt, 3);
        driver.run();
        assert_eq!(driver.finished[&id], alone(ROOMY.window, &prompt, 3));
    }
    assert_eq!(driver.scheduler.counts().cached_tokens, 288);
}

#[test]
fn a_prefix_whose_local_blocks_are_gone_is_not_used() {
    let mut driver = Driver::new(Setup {
        blocks: 24,
        ..ROOMY
    });
    let shared = prompt(1, 160);
    driver.submit(Class::Bulk, &shared, 1);
    driver.run();
    // Others take up the idle local blocks, and leave some of the global ones.
    driver.submit(Class::Bulk, &prompt(2, 640), 1);
    driver.run();
    let id = driver.submit(Class::Bulk, &shared, 5);
    driver.run();
    assert_eq!(driver.finished[&id], alone(ROOMY.window, &shared, 5));
}

#[test]
fn interactive_goes_first_and_finds_a_slot() {
    let setup = Setup {
        slots_max: 3,
        reserved: 1,
        ..ROOMY
    };
    let mut driver = Driver::new(setup);
    for seed in 1..5 {
        driver.submit(Class::Bulk, &prompt(seed, 30), 50);
    }
    driver.step();
    assert_eq!(
        (
            driver.scheduler.running_count(),
            driver.scheduler.waiting_count()
        ),
        (2, 2)
    );
    let id = driver.submit(Class::Interactive, &prompt(9, 30), 1);
    driver.step();
    assert!(driver.finished.contains_key(&id));
    driver.run();
}

#[test]
fn interactive_sends_bulk_back_when_blocks_are_short() {
    let mut driver = Driver::new(Setup {
        blocks: 10,
        reserved: 1,
        ..ROOMY
    });
    for seed in 1..4 {
        driver.submit(Class::Bulk, &prompt(seed, 90), 30);
    }
    driver.step();
    driver.step();
    let id = driver.submit(Class::Interactive, &prompt(9, 90), 1);
    driver.step();
    driver.step();
    assert!(driver.finished.contains_key(&id));
    assert!(driver.scheduler.counts().preemptions > 0);
    driver.run();
    assert_eq!(driver.finished.len(), 4);
}

#[test]
fn atomic_ranges_are_computed_in_one_step() {
    let ranges = [(10..74, 1), (74..138, 2), (200..264, 1)];
    let mut driver = Driver::new(Setup {
        slots_max: 8,
        step_tokens_max: 72,
        blocks: 40,
        ..ROOMY
    });
    for seed in 1..8 {
        driver.submit_with(Class::Bulk, &prompt(seed, 300), 30, &ranges);
    }
    driver.run();
    assert_eq!(driver.finished.len(), 7);
    for id in 1..8 {
        let prompt = prompt(u32::try_from(id).unwrap(), 300);
        let expected = alone_with(ROOMY.window, &prompt, 30, &ranges);
        assert_eq!(driver.finished[&SequenceId(id)], expected);
    }
    for (start, end) in &driver.spans {
        for (range, _) in &ranges {
            let cut = |at: usize| range.start < at && at < range.end;
            assert!(
                !cut(*start) && !cut(*end),
                "{start}..{end} splits {range:?}"
            );
        }
    }
}

#[test]
fn prompts_that_differ_in_a_picture_share_only_what_is_before_it() {
    let mut driver = Driver::new(ROOMY);
    let prompt = prompt(1, 320);
    let mut computed = Vec::new();
    for colour in [1, 2, 1] {
        let before = driver.scheduler.counts().cached_tokens;
        let pictures = [(100..108, colour)];
        let id = driver.submit_with(Class::Bulk, &prompt, 20, &pictures);
        driver.run();
        let expected = alone_with(ROOMY.window, &prompt, 20, &pictures);
        assert_eq!(driver.finished[&id], expected);
        computed.push(driver.scheduler.counts().cached_tokens - before);
    }
    assert_eq!(computed, [0, 96, 288]);
}

#[test]
fn scored_sequences_give_all_rows_within_their_bound() {
    let mut driver = Driver::new(ROOMY);
    let logits = LogitsWanted::All { rows_max: 7 };
    for id in [1, 2] {
        let tokens = prompt(1, 40);
        driver
            .scheduler
            .submit(Sequence::new(SequenceId(id), Class::Bulk, tokens, logits));
    }
    let mut rows = 0;
    while rows < 80 {
        let plan = driver.scheduler.plan(|_| true).unwrap();
        assert!(plan.batch.logit_rows.len() <= 7);
        rows += plan.batch.logit_rows.len();
        driver.scheduler.commit(&plan);
        for part in &plan.parts {
            if driver
                .scheduler
                .running(part.sequence)
                .unwrap()
                .uncomputed()
                == 0
            {
                driver.scheduler.remove(part.sequence);
            }
        }
    }
    assert_eq!(rows, 80);
}

#[derive(Debug, Clone)]
enum Event {
    Submit {
        interactive: bool,
        shared: usize,
        own: usize,
        seed: u32,
        output_tokens: usize,
        /// Where a picture begins, and its colour; the next one comes two tokens behind it.
        pictures: Option<(usize, u8, bool)>,
    },
    Cancel(u64),
    Steps(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let pictures = prop::option::of((0usize..100, 0u8..3, any::<bool>()));
    let shape = (0usize..200, 1usize..60, 1usize..80);
    let submit = (any::<bool>(), shape, 1u32..6, pictures).prop_map(
        |(interactive, (shared, own, output_tokens), seed, pictures)| Event::Submit {
            interactive,
            shared,
            own,
            seed,
            output_tokens,
            pictures,
        },
    );
    prop_oneof![
        4 => submit,
        1 => (1u64..40).prop_map(Event::Cancel),
        3 => (1usize..12).prop_map(Event::Steps),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let window = prop_oneof![Just(None), (8usize..100).prop_map(Some)];
    let step_tokens_max = 8 + PICTURE_TOKENS..90;
    let drafting = (0usize..9, prop_oneof![Just(2), Just(VOCAB)]);
    let bounds = (12u32..40, window, 2usize..9, step_tokens_max);
    (bounds, any::<bool>(), drafting).prop_map(
        |((blocks, window, slots_max, step_tokens_max), sharing, (draft_tokens_max, vocab))| {
            Setup {
                blocks,
                window,
                slots_max,
                reserved: slots_max / 3,
                step_tokens_max,
                sharing,
                draft_tokens_max,
                vocab,
            }
        },
    )
}

/// The pictures of a prompt, as far as they fit into it: one, or two with two tokens between.
fn placed(pictures: Option<(usize, u8, bool)>, tokens: usize) -> Vec<Picture> {
    let Some((start, colour, two)) = pictures else {
        return Vec::new();
    };
    let at = |start: usize| start..start + PICTURE_TOKENS;
    let all = [
        (at(start), colour),
        (at(start + PICTURE_TOKENS + 2), colour + 1),
    ];
    let wanted = all.into_iter().take(1 + usize::from(two));
    wanted.filter(|(range, _)| range.end <= tokens).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_output_is_the_one_alone(
        setup in setup(),
        events in prop::collection::vec(event(), 1..40),
    ) {
        let mut driver = Driver::new(setup);
        let mut prompts = HashMap::new();
        for event in events {
            match event {
                Event::Submit { interactive, shared, own, seed, output_tokens, pictures } => {
                    let class = if interactive { Class::Interactive } else { Class::Bulk };
                    let tokens = [prompt(0, shared), prompt(seed, own)].concat();
                    let pictures = placed(pictures, tokens.len());
                    let id = driver.submit_with(class, &tokens, output_tokens, &pictures);
                    prompts.insert(id, (tokens, output_tokens, pictures));
                }
                Event::Cancel(id) => {
                    driver.scheduler.remove(SequenceId(id));
                    driver.scheduler.check();
                    prompts.remove(&SequenceId(id));
                }
                Event::Steps(steps) => {
                    for _ in 0..steps {
                        driver.step();
                    }
                }
            }
        }
        driver.run();
        for (id, (tokens, output_tokens, pictures)) in prompts {
            let expected = alone_in(setup, &tokens, output_tokens, &pictures);
            prop_assert_eq!(&driver.finished[&id], &expected);
        }
    }
}

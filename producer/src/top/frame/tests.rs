//! What is shown in wide and in narrow terminals.

use chrono::DateTime;

use super::super::Figures;
use super::*;

fn view() -> View {
    let figures = Figures {
        running: 24.0,
        tokens_per_second: Some(123.45),
        response_s: Some(0.42),
        cache: Some(0.371),
        memory_mb: 5_210.0,
    };
    let worker = |id: &str, figures| WorkerRow {
        id: id.to_owned(),
        model: "gemma-3-4b-it".to_owned(),
        slots: 32,
        up_s: 7_300.0,
        figures,
    };
    let batch = |id: &str, state, done, left_s: Option<f64>| BatchRow {
        id: id.to_owned(),
        model: "gemma-3-4b-it".to_owned(),
        state,
        done,
        total: 10_000,
        without_answer: 3,
        per_second: left_s.map(|_| 4.5),
        left_s,
    };
    View {
        at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        attention: vec![
            "LapidaryMemoryHigh: Worker a holds 9000 MB of memory.".to_owned(),
            "no worker serves `gemma-3-27b-it`; 5 requests wait for it".to_owned(),
        ],
        queues: vec![QueueRow {
            model: "gemma-3-4b-it".to_owned(),
            interactive: 12,
            bulk: 340,
        }],
        workers: vec![
            worker("node-1-4711-a1b2c3d4", Some(figures)),
            worker("node-2-4712-e5f6a7b8", None),
        ],
        batches: vec![
            batch(
                "0190f3a0-0000-7000-8000-00000000abcd",
                "runs",
                7_400,
                Some(577.0),
            ),
            batch(
                "0190f3a0-0000-7000-8000-00000000abce",
                "completed",
                10_000,
                None,
            ),
        ],
        tokens_per_second: Some(123.45),
    }
}

fn text(view: Option<&View>, width: usize) -> String {
    let lines = frame("amqp://broker/", view, width);
    for line in &lines {
        assert!(line.text.chars().count() <= width, "{width}: {}", line.text);
    }
    let lines = lines.into_iter().map(|line| line.text + "\n");
    lines.collect::<Vec<_>>().concat()
}

#[test]
fn wide() {
    insta::assert_snapshot!(text(Some(&view()), 132));
}

#[test]
fn of_eighty_columns() {
    insta::assert_snapshot!(text(Some(&view()), 80));
}

#[test]
fn narrow() {
    insta::assert_snapshot!(text(Some(&view()), 40));
}

#[test]
fn nothing_fits_and_nothing_breaks() {
    for width in 1..40 {
        text(Some(&view()), width);
        text(None, width);
    }
}

#[test]
fn much_that_deserves_attention_is_counted() {
    let attention = (0..9).map(|number| format!("thing {number}")).collect();
    let lines = text(
        Some(&View {
            attention,
            ..view()
        }),
        80,
    );
    assert!(lines.contains("! thing 4\n! and 4 more\n"), "{lines}");
}

#[test]
fn where_nothing_is_nothing_is_shown() {
    let empty = View {
        attention: Vec::new(),
        queues: Vec::new(),
        workers: Vec::new(),
        batches: Vec::new(),
        tokens_per_second: None,
        ..view()
    };
    let expected = "\
08:00:00  amqp://broker/
0 workers, 0 sequences run, 0 jobs wait, 0 batches unfinished, - tokens/s
";
    assert_eq!(text(Some(&empty), 80), expected);
    assert_eq!(text(None, 80), "amqp://broker/\nlooking\n");
}

//! What is shown, drawn as lines.

use super::table::{Column, cut, table, wrap};
use super::{BatchRow, QueueRow, View, WorkerRow};
use crate::progress::duration;

/// Things that deserve attention which are shown.
const ATTENTION_MAX: usize = 5;
/// Characters of a bar.
const BAR: u64 = 10;
/// What stands where there is no figure.
const NONE: &str = "-";

/// A line of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// It stands out.
    pub(crate) is_bold: bool,
}

impl Line {
    fn plain(text: String) -> Self {
        Self {
            text,
            is_bold: false,
        }
    }

    fn bold(text: String) -> Self {
        Self {
            text,
            is_bold: true,
        }
    }
}

/// Everything, in lines of at most `width` characters; before the first look there is no view.
pub(crate) fn frame(place: &str, view: Option<&View>, width: usize) -> Vec<Line> {
    let Some(view) = view else {
        return vec![
            Line::bold(cut(place, width)),
            Line::plain(cut("looking", width)),
        ];
    };
    let title = format!("{}  {place}", view.at.format("%H:%M:%S"));
    let mut lines = vec![Line::bold(cut(&title, width))];
    lines.extend(wrap(&summary(view), width).into_iter().map(Line::plain));
    for attention in view.attention.iter().take(ATTENTION_MAX) {
        let text = wrap(&format!("! {attention}"), width);
        lines.extend(text.into_iter().map(Line::bold));
    }
    let more = view.attention.len().saturating_sub(ATTENTION_MAX);
    if more > 0 {
        lines.push(Line::bold(cut(&format!("! and {more} more"), width)));
    }
    let of_tables = [
        queues(&view.queues, width),
        workers(&view.workers, width),
        batches(&view.batches, width),
    ];
    for table in of_tables.into_iter().filter(|table| table.len() > 1) {
        lines.push(Line::plain(String::new()));
        let mut rows = table.into_iter();
        lines.extend(rows.next().map(Line::bold));
        lines.extend(rows.map(Line::plain));
    }
    lines
}

fn summary(view: &View) -> String {
    let figures = view
        .workers
        .iter()
        .filter_map(|worker| worker.figures.as_ref());
    // The sum of no floats is -0.
    let running = figures.fold(0.0, |sum, of| sum + of.running);
    let waiting: u64 = view
        .queues
        .iter()
        .map(|queue| queue.interactive + queue.bulk)
        .sum();
    let unfinished = view
        .batches
        .iter()
        .filter(|batch| batch.left_s.is_some() || is_open(batch));
    format!(
        "{} workers, {running:.0} sequences run, {waiting} jobs wait, {} batches unfinished, {} tokens/s",
        view.workers.len(),
        unfinished.count(),
        figure(view.tokens_per_second, 1),
    )
}

fn is_open(batch: &BatchRow) -> bool {
    matches!(batch.state, "open" | "runs")
}

fn queues(rows: &[QueueRow], width: usize) -> Vec<String> {
    let columns = [
        text("QUEUE", 0),
        number("INTERACTIVE", 2),
        number("BULK", 3),
    ];
    let rows = rows.iter().map(|row| {
        vec![
            row.model.clone(),
            row.interactive.to_string(),
            row.bulk.to_string(),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>(), width)
}

fn workers(rows: &[WorkerRow], width: usize) -> Vec<String> {
    let columns = [
        text("WORKER", 0),
        text("MODEL", 3),
        number("RUN", 7),
        number("SLOTS", 4),
        number("TOKENS/S", 8),
        number("RESPONSE", 6),
        number("CACHE", 2),
        number("MEMORY", 5),
        number("UP", 1),
    ];
    let rows = rows.iter().map(|row| {
        let of = row.figures.as_ref();
        let or_none = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        vec![
            row.id.clone(),
            row.model.clone(),
            or_none(of.map(|of| format!("{:.0}", of.running))),
            row.slots.to_string(),
            figure(of.and_then(|of| of.tokens_per_second), 1),
            or_none(
                of.and_then(|of| of.response_s)
                    .map(|time| format!("{time:.2} s")),
            ),
            or_none(of.and_then(|of| of.cache).map(percent)),
            or_none(of.map(|of| format!("{:.0} MB", of.memory_mb))),
            duration(row.up_s),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>(), width)
}

fn batches(rows: &[BatchRow], width: usize) -> Vec<String> {
    let columns = [
        text("BATCH", 0),
        text("MODEL", 2),
        text("STATE", 4),
        text("PROGRESS", 1),
        number("DONE", 8),
        number("OF", 7),
        number("NO ANSWER", 5),
        number("PER S", 3),
        number("LEFT", 6),
    ];
    let rows = rows.iter().map(|row| {
        vec![
            row.id.clone(),
            row.model.clone(),
            row.state.to_owned(),
            bar(row.done, row.total),
            row.done.to_string(),
            row.total.to_string(),
            row.without_answer.to_string(),
            figure(row.per_second, 1),
            row.left_s.map_or_else(|| NONE.to_owned(), duration),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>(), width)
}

fn bar(done: u64, total: u64) -> String {
    let full = (done * BAR).checked_div(total).unwrap_or(0).min(BAR);
    let part = |count: u64, sign: &str| sign.repeat(usize::try_from(count).unwrap_or(0));
    part(full, "#") + &part(BAR - full, ".")
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.digits$}"))
}

fn text(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        is_number: false,
        rank,
    }
}

fn number(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        is_number: true,
        rank,
    }
}

#[cfg(test)]
mod tests;

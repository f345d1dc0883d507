//! `lapidary top`: how the place does, live.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cli::TopArgs;
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::top::{Key, Line, Looker, Screen, View, frame, keys};

/// Columns where there is no terminal.
const COLUMNS: usize = 120;
/// The last line.
const HELP: &str = "q ends, arrows move";

/// Shows the place until the user ends it; see `lapidary top --help`.
pub(super) async fn run(args: TopArgs, stop: CancellationToken) -> Result<Exit, Stop> {
    let config = Config::resolve(&args.place)?;
    let place = place(&config);
    let looker = Looker::new(config.open().await?, args.prometheus);
    let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if args.once || !has_terminal {
        return once(&place, looker, args.interval, &stop).await;
    }
    live(&place, looker, args.interval, &stop).await
}

/// One plain frame. It takes two looks to say how fast something is.
async fn once(
    place: &str,
    mut looker: Looker,
    interval: Duration,
    stop: &CancellationToken,
) -> Result<Exit, Stop> {
    let looking = async {
        looker.look().await;
        tokio::time::sleep(interval).await;
        looker.look().await
    };
    let Some(view) = stop.run_until_cancelled(looking).await else {
        return Ok(Exit::Interrupted);
    };
    let mut out = std::io::stdout().lock();
    let columns = if out.is_terminal() {
        Screen::size().0
    } else {
        COLUMNS
    };
    for line in frame(place, Some(&view), columns) {
        writeln!(out, "{}", line.text)?;
    }
    Ok(Exit::Well)
}

/// A frame after each look, key or change of the terminal's size.
async fn live(
    place: &str,
    mut looker: Looker,
    interval: Duration,
    stop: &CancellationToken,
) -> Result<Exit, Stop> {
    let mut resized = signal(SignalKind::window_change())?;
    let _screen = Screen::enter()?;
    let mut pressed = keys();
    let (sender, mut views) = watch::channel::<Option<View>>(None);
    let looking = async {
        loop {
            sender.send_replace(Some(looker.look().await));
            tokio::time::sleep(interval).await;
        }
    };
    let mut looking = std::pin::pin!(looking);
    let mut from = 0;
    loop {
        let (columns, rows) = Screen::size();
        let lines = frame(place, views.borrow_and_update().as_ref(), columns);
        from = from.min(hidden(lines.len(), rows));
        Screen::draw(&window(lines, from, (columns, rows)))?;
        tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Interrupted),
            () = &mut looking => {}
            // The sender is as old as this loop.
            _ = views.changed() => {}
            key = pressed.recv() => match key {
                Some(Key::Up) => from = from.saturating_sub(1),
                Some(Key::Down) => from += 1,
                Some(Key::Quit) | None => return Ok(Exit::Well),
            },
            _ = resized.recv() => {}
        }
    }
}

/// Lines that there is no room for.
fn hidden(lines: usize, rows: usize) -> usize {
    (lines + 1).saturating_sub(rows)
}

/// The lines that a terminal has room for, the first one always among them, and what keys do.
fn window(lines: Vec<Line>, from: usize, (columns, rows): (usize, usize)) -> Vec<Line> {
    let room = rows.saturating_sub(1);
    let mut lines = lines.into_iter();
    let first = lines.next();
    let mut shown: Vec<Line> = first
        .into_iter()
        .chain(lines.skip(from))
        .take(room)
        .collect();
    shown.push(Line {
        text: HELP.chars().take(columns).collect(),
        is_bold: true,
    });
    shown
}

/// Where it is, without user and password.
fn place(config: &Config) -> String {
    let broker = &config.urls.broker;
    let Ok(mut url) = Url::parse(broker) else {
        return broker.clone();
    };
    // Addresses of files have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<Line> {
        let line = |number: usize| Line {
            text: number.to_string(),
            is_bold: false,
        };
        (0..count).map(line).collect()
    }

    fn shown(count: usize, from: usize, rows: usize) -> String {
        let shown = window(lines(count), from, (80, rows)).into_iter();
        let texts: Vec<String> = shown.map(|line| line.text).collect();
        texts.join(" ").replace(HELP, "?")
    }

    #[test]
    fn a_window_moves_below_the_first_line() {
        assert_eq!(shown(3, 0, 10), "0 1 2 ?");
        assert_eq!(hidden(3, 10), 0);
        assert_eq!(shown(9, 0, 5), "0 1 2 3 ?");
        assert_eq!(hidden(9, 5), 5);
        assert_eq!(shown(9, 5, 5), "0 6 7 8 ?");
        assert_eq!(shown(9, 0, 1), "?");
    }
}

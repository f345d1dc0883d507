//! Columns that fit a width: what is least important goes first.

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Numbers stand to the right.
    pub(super) is_number: bool,
    /// Goes before all columns of a higher one where there is no room.
    pub(super) rank: u8,
}

/// Characters that the first column, which has names, keeps as long as there are others.
const NAME_MIN: usize = 12;
/// What stands for what was cut off.
const CUT: char = '…';

/// Rows under their titles, each line of at most `width` characters. The first column is never left out.
pub(super) fn table(columns: &[Column], rows: &[Vec<String>], width: usize) -> Vec<String> {
    let natural = |index: usize| {
        let cells = rows.iter().map(|row| length(&row[index]));
        cells.max().unwrap_or(0).max(length(columns[index].title))
    };
    let mut kept: Vec<(usize, usize)> = (0..columns.len())
        .map(|index| (index, natural(index)))
        .collect();
    let others = |kept: &[(usize, usize)]| kept.iter().skip(1).map(|(_, width)| 1 + width).sum();
    let name = natural(0).min(NAME_MIN);
    while kept.len() > 1 && name + others(&kept) > width {
        let ranks = kept.iter().enumerate().skip(1);
        let least = ranks.min_by_key(|(_, (index, _))| columns[*index].rank);
        let least = least.map_or(1, |(position, _)| position);
        kept.remove(least);
    }
    let room = width.saturating_sub(others(&kept)).max(1);
    if let Some((_, first)) = kept.first_mut() {
        *first = room.min(*first);
    }
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = kept
            .iter()
            .map(|(index, width)| {
                let text = cut(&cell(*index), *width);
                if columns[*index].is_number {
                    format!("{text:>width$}")
                } else {
                    format!("{text:<width$}")
                }
            })
            .collect();
        cut(cells.join(" ").trim_end(), width)
    };
    let titles = line(&|index| columns[index].title.to_owned());
    let rows = rows.iter().map(|row| line(&|index| row[index].clone()));
    std::iter::once(titles).chain(rows).collect()
}

/// At most so many characters of a text, which says if there were more.
pub(super) fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push(CUT);
    cut
}

/// A text in lines of at most so many characters, broken between words.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width)),
        }
    }
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "name",
            is_number: false,
            rank: 0,
        },
        Column {
            title: "extra",
            is_number: true,
            rank: 1,
        },
        Column {
            title: "count",
            is_number: true,
            rank: 2,
        },
    ];

    fn lines(width: usize) -> Vec<String> {
        let row = |name: &str, count: &str| vec![name.to_owned(), "1".to_owned(), count.to_owned()];
        table(
            &COLUMNS,
            &[row("opal", "12"), row("tourmaline", "3")],
            width,
        )
    }

    #[test]
    fn what_matters_least_goes_first_and_then_names_are_cut() {
        assert_eq!(lines(30)[2], "tourmaline     1     3");
        assert_eq!(
            lines(20),
            ["name       count", "opal          12", "tourmaline     3"]
        );
        assert_eq!(lines(9), ["name", "opal", "tourmali…"]);
        assert_eq!(lines(4)[2], "tou…");
        let long = [vec![
            "a-name-that-is-long".to_owned(),
            "1".to_owned(),
            "12".to_owned(),
        ]];
        assert_eq!(table(&COLUMNS, &long, 18)[1], "a-name-that…    12");
        assert_eq!(table(&COLUMNS, &long, 24)[1], "a-name-that…     1    12");
    }

    #[test]
    fn words_are_wrapped() {
        assert_eq!(wrap("a quick brown fox", 8), ["a quick", "brown", "fox"]);
        assert_eq!(wrap("incomprehensible", 5), ["inco…"]);
        assert!(wrap("", 5).is_empty());
    }
}

//! Curves of characters: a small picture of how a number went. With braille dots (two by four in a character) where the terminal
//! shows Unicode, with stars elsewhere.

/// What there is to draw on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// Columns, labels included.
    pub width: usize,
    /// May characters beyond ASCII be used?
    pub unicode: bool,
}

/// The least columns of a picture.
const MIN_COLUMNS: usize = 16;
/// The most columns of a picture: beyond, a curve of a few hundred points doesn't get clearer.
const MAX_COLUMNS: usize = 100;

impl Canvas {
    /// Draws points (place, value) as a line under a title: `rows` lines and one below that names where it begins and ends. Of several
    /// points in one column the mean is drawn. Empty where no point is finite.
    pub fn draw(&self, title: &str, points: &[(f64, f64)], rows: usize, label: impl Fn(f64) -> String) -> String {
        let points: Vec<(f64, f64)> = points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).copied().collect();
        let (Some(places), Some(values)) = (range(points.iter().map(|p| p.0)), range(points.iter().map(|p| p.1))) else {
            return String::new();
        };
        let rows = rows.max(2);
        let labels = [label(values.1), label(values.0)];
        let margin = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let columns = self.width.saturating_sub(margin + 2).clamp(MIN_COLUMNS, MAX_COLUMNS);
        let (dots_x, dots_y) = if self.unicode { (2, 4) } else { (1, 1) };
        let mut grid = Grid::new(columns * dots_x, rows * dots_y);
        grid.line(&points, places, values);
        let bar = if self.unicode { '│' } else { '|' };
        let mut text = format!("{title}\n");
        for row in 0..rows {
            let label = match row {
                0 => labels[0].as_str(),
                _ if row + 1 == rows => labels[1].as_str(),
                _ => "",
            };
            let cells = (0..columns).map(|column| if self.unicode { grid.braille(column, row) } else { grid.star(column, row) });
            let line: String = cells.collect();
            text += format!("{label:>margin$} {bar}{}", line.trim_end_matches([' ', '\u{2800}'])).trim_end();
            text.push('\n');
        }
        let (begin, end) = (places.0.to_string(), places.1.to_string());
        let gap = columns.saturating_sub(begin.len() + end.len()).max(1);
        format!("{text}{:margin$}  {begin}{:gap$}{end}\n", "", "")
    }

    /// The last values as a few blocks of different height; empty without Unicode.
    pub fn sparkline(&self, values: &[f64], columns: usize) -> String {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let values: Vec<f64> = values.iter().filter(|value| value.is_finite()).copied().collect();
        let values = &values[values.len().saturating_sub(columns)..];
        let Some((least, most)) = range(values.iter().copied()).filter(|_| self.unicode) else { return String::new() };
        let height = |value: f64| ((value - least) / (most - least) * 7.0).round().clamp(0.0, 7.0) as usize;
        values.iter().map(|value| BLOCKS[height(*value)]).collect()
    }
}

/// The least and the greatest value; a little wider where they are the same. None without values.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
    match least.partial_cmp(&most)? {
        std::cmp::Ordering::Less => Some((least, most)),
        std::cmp::Ordering::Equal => Some((least, least + least.abs().max(1.0) * 0.01)),
        std::cmp::Ordering::Greater => None,
    }
}

/// Dots; row 0 is the top.
struct Grid {
    width: usize,
    height: usize,
    dots: Vec<bool>,
}

impl Grid {
    fn new(width: usize, height: usize) -> Grid {
        Grid { width, height, dots: vec![false; width * height] }
    }

    /// Sets the mean of each column's points, joined by lines.
    fn line(&mut self, points: &[(f64, f64)], places: (f64, f64), values: (f64, f64)) {
        let place = |value: f64, (least, most): (f64, f64), cells: usize| {
            let share = ((value - least) / (most - least)).clamp(0.0, 1.0);
            (share * (cells - 1) as f64).round() as usize
        };
        let mut columns = vec![(0.0, 0_u32); self.width];
        for (x, y) in points {
            let (sum, count) = &mut columns[place(*x, places, self.width)];
            *sum += y;
            *count += 1;
        }
        let means = columns.iter().enumerate().filter(|(_, (_, count))| *count > 0);
        let height = self.height;
        let means = means.map(|(x, (sum, count))| (x, place(sum / f64::from(*count), values, height)));
        let mut before: Option<(usize, usize)> = None;
        for (x, y) in means {
            let (from_x, from_y) = before.unwrap_or((x, y));
            for column in from_x..=x {
                // Each column goes its part of the way up or down, from beside the dot before it.
                let end = between((from_x, from_y), (x, y), column);
                let begin = match between((from_x, from_y), (x, y), column.saturating_sub(1).max(from_x)) {
                    below if below < end => below + 1,
                    above if above > end => above - 1,
                    same => same,
                };
                for height in begin.min(end)..=begin.max(end) {
                    self.set(column, height);
                }
            }
            before = Some((x, y));
        }
    }

    fn set(&mut self, x: usize, height: usize) {
        let row = self.height - 1 - height;
        self.dots[row * self.width + x] = true;
    }

    fn at(&self, x: usize, y: usize) -> bool {
        self.dots[y * self.width + x]
    }

    fn star(&self, column: usize, row: usize) -> char {
        if self.at(column, row) { '*' } else { ' ' }
    }

    /// The braille pattern of two by four dots (Unicode, U+2800 to U+28FF).
    fn braille(&self, column: usize, row: usize) -> char {
        const BITS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        let dots = BITS.iter().enumerate().flat_map(|(x, bits)| bits.iter().enumerate().map(move |(y, bit)| (x, y, bit)));
        let set = dots.filter(|(x, y, _)| self.at(column * 2 + x, row * 4 + y));
        char::from_u32(0x2800 + set.map(|(_, _, bit)| bit).sum::<u32>()).expect("a braille pattern")
    }
}

/// The height at a column of the line between two dots.
fn between(from: (usize, usize), to: (usize, usize), column: usize) -> usize {
    match to.0 - from.0 {
        0 => to.1,
        way => {
            let share = (column - from.0) as f64 / way as f64;
            (from.1 as f64 + (to.1 as f64 - from.1 as f64) * share).round() as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASCII: Canvas = Canvas { width: 24, unicode: false };
    const UNICODE: Canvas = Canvas { width: 24, unicode: true };

    fn two_digits(value: f64) -> String {
        format!("{value:.2}")
    }

    #[test]
    fn a_falling_loss_falls_from_the_upper_left_to_the_lower_right() {
        let points: Vec<(f64, f64)> = (0..=17).map(|x| (f64::from(x), 2.0 - f64::from(x) / 17.0)).collect();
        let text = ASCII.draw("loss", &points, 4, two_digits);
        let expected = "\
loss
2.00 |***
     |   ******
     |         ******
1.00 |               ***
      0               17
";
        assert_eq!(text, expected);
    }

    #[test]
    fn gaps_are_joined_and_steep_rises_are_lines_of_dots() {
        let slow = ASCII.draw("x", &[(0.0, 0.0), (17.0, 3.0)], 4, two_digits);
        assert_eq!(slow.matches('*').count(), 18, "{slow}");
        let steep = ASCII.draw("x", &[(0.0, 0.0), (8.0, 0.0), (9.0, 3.0), (17.0, 3.0)], 4, two_digits);
        assert_eq!(steep.matches('*').count(), 18 + 2, "{steep}");
    }

    #[test]
    fn a_terminal_with_unicode_gets_eight_dots_in_each_character() {
        let points: Vec<(f64, f64)> = (0..=100).map(|x| (f64::from(x), f64::from(x))).collect();
        let text = UNICODE.draw("up", &points, 4, two_digits);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[1].starts_with("100.00 │") && lines[4].starts_with("  0.00 │"), "{text}");
        assert!(lines[1].ends_with(|c: char| ('\u{2801}'..='\u{28ff}').contains(&c)), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 24), "{text}");
    }

    #[test]
    fn what_can_t_be_drawn_is_left_out() {
        assert_eq!(ASCII.draw("none", &[], 4, two_digits), "");
        assert_eq!(ASCII.draw("none", &[(0.0, f64::NAN), (1.0, f64::INFINITY)], 4, two_digits), "");
        let one = ASCII.draw("one", &[(3.0, 5.0)], 4, two_digits);
        assert_eq!(one.matches('*').count(), 1, "{one}");
        let narrow = Canvas { width: 0, unicode: false }.draw("narrow", &[(0.0, 1.0), (1.0, 2.0)], 0, two_digits);
        assert!(narrow.lines().count() == 4 && narrow.contains('*'), "{narrow}");
    }

    #[test]
    fn a_sparkline_shows_the_last_values() {
        assert_eq!(UNICODE.sparkline(&[9.0, 7.0, 3.5, f64::NAN, 0.0], 3), "█▅▁");
        assert_eq!(UNICODE.sparkline(&[], 3), "");
        assert_eq!(ASCII.sparkline(&[1.0, 2.0], 3), "");
    }
}

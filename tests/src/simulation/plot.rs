//! The plot of a comparison, as SVG: prices under each policy, and what they made of utilisation and waiting.

use std::fmt::Write as _;

use deepmarket_types::SlotPrices;

use super::{Outcome, Pair, outcome::worker_hour};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 640.0;
/// One colour for each slot of the day, one for each policy.
const SLOT_COLOURS: [&str; 4] = ["#3b5b92", "#d9822b", "#b5322f", "#5a8f4e"];
const RANDOM: &str = "#a0a0a0";
const DYNAMIC: &str = "#1f6f8b";
const SLOT_NAMES: [&str; 4] = ["00-06", "06-12", "12-18", "18-24"];
/// Days of prices that are shown.
const DAYS: usize = 90;

/// Draws four panels: the first seed's prices under `random` and `dynamic`, utilisation in each slot, and each seed's
/// utilisation against its waiting.
pub fn plot(pairs: &[Pair]) -> String {
    let mut svg = Svg::new();
    let prices = |svg: &mut Svg, x, title, days: &[SlotPrices]| {
        let days = &days[..days.len().min(DAYS)];
        let panel = Panel { x, y: 50.0, title, across: (0.0, DAYS as f64), up: (0.0, 2.2) };
        panel.frame(svg, "day", &[0.5, 1.0, 1.5, 2.0], &[0.0, 30.0, 60.0, 90.0]);
        for (slot, colour) in SLOT_COLOURS.iter().enumerate() {
            let points = days.iter().enumerate().map(|(day, prices)| (day as f64, worker_hour(&prices.slots[slot])));
            panel.line(svg, points, colour);
            let at = 60.0 + 90.0 * slot as f64;
            svg.text(x + at, 44.0, "start", 11.0, colour, SLOT_NAMES[slot]);
        }
    };
    prices(&mut svg, 50.0, "random: credits for a worker's hour", &pairs[0].random.days);
    prices(&mut svg, 530.0, "dynamic: credits for a worker's hour", &pairs[0].dynamic.days);

    let panel =
        Panel { x: 50.0, y: 370.0, title: "share of the offered core-hours that is used", across: (0.0, 4.0), up: (0.0, 1.0) };
    panel.frame(&mut svg, "slot of the day", &[0.2, 0.4, 0.6, 0.8, 1.0], &[]);
    for (slot, name) in SLOT_NAMES.iter().enumerate() {
        let mean = |outcome: fn(&Pair) -> &Outcome| {
            pairs.iter().map(|pair| outcome(pair).slot_utilisation(slot)).sum::<f64>() / pairs.len() as f64
        };
        panel.bar(&mut svg, slot as f64 + 0.2, 0.28, mean(|pair| &pair.random), RANDOM);
        panel.bar(&mut svg, slot as f64 + 0.52, 0.28, mean(|pair| &pair.dynamic), DYNAMIC);
        let (x, y) = panel.at(slot as f64 + 0.5, 0.0);
        svg.text(x, y + 16.0, "middle", 11.0, "#444", name);
    }
    panel.legend(&mut svg);

    let waits = pairs.iter().flat_map(|pair| [pair.random.mean_wait(), pair.dynamic.mean_wait()]);
    let most = waits.fold(1.0, f64::max).ceil();
    let title = "hours from need to start, a dot for each market";
    let panel = Panel { x: 530.0, y: 370.0, title, across: (0.0, 1.0), up: (0.0, most) };
    let ticks: Vec<f64> = (1..=most as u32).map(f64::from).collect();
    panel.frame(&mut svg, "utilisation", &ticks, &[0.2, 0.4, 0.6, 0.8, 1.0]);
    for pair in pairs {
        for (outcome, colour) in [(&pair.random, RANDOM), (&pair.dynamic, DYNAMIC)] {
            panel.dot(&mut svg, outcome.utilisation(), outcome.mean_wait(), colour);
        }
    }
    panel.legend(&mut svg);
    svg.finish()
}

struct Svg(String);

impl Svg {
    fn new() -> Svg {
        let font = "font-family=\"Helvetica, Arial, sans-serif\"";
        let mut text = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" {font}>\n");
        let _ = writeln!(text, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>");
        Svg(text)
    }

    fn add(&mut self, element: std::fmt::Arguments) {
        self.0.write_fmt(element).and_then(|()| self.0.write_char('\n')).expect("a String takes everything");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: f64, colour: &str, text: &str) {
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\">{text}</text>"
        ));
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// A diagram at a place of the picture, with the numbers that its sides mean.
struct Panel<'a> {
    x: f64,
    y: f64,
    title: &'a str,
    across: (f64, f64),
    up: (f64, f64),
}

impl Panel<'_> {
    const WIDTH: f64 = 400.0;
    const HEIGHT: f64 = 210.0;

    /// Where a point of the diagram lies in the picture.
    fn at(&self, across: f64, up: f64) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (self.x + Self::WIDTH * share(across, self.across), self.y + Self::HEIGHT * (1.0 - share(up, self.up)))
    }

    fn frame(&self, svg: &mut Svg, name: &str, ups: &[f64], acrosses: &[f64]) {
        svg.text(self.x, self.y - 24.0, "start", 13.0, "#111", self.title);
        for up in ups {
            let (x, y) = self.at(self.across.0, *up);
            let right = x + Self::WIDTH;
            svg.add(format_args!("<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>"));
            svg.text(x - 6.0, y + 4.0, "end", 11.0, "#444", &up.to_string());
        }
        for across in acrosses {
            let (x, y) = self.at(*across, self.up.0);
            svg.text(x, y + 16.0, "middle", 11.0, "#444", &across.to_string());
        }
        let (x, y) = self.at(self.across.0, self.up.0);
        let right = x + Self::WIDTH;
        svg.add(format_args!("<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#444\"/>"));
        svg.text(x + Self::WIDTH / 2.0, y + 32.0, "middle", 11.0, "#444", name);
    }

    fn line(&self, svg: &mut Svg, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
        let points: Vec<String> = points.map(|(across, up)| self.at(across, up)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        svg.add(format_args!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>"));
    }

    fn bar(&self, svg: &mut Svg, across: f64, width: f64, up: f64, colour: &str) {
        let ((left, top), (right, bottom)) = (self.at(across, up), self.at(across + width, self.up.0));
        let (width, height) = (right - left, bottom - top);
        svg.add(format_args!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    fn dot(&self, svg: &mut Svg, across: f64, up: f64, colour: &str) {
        let (x, y) = self.at(across, up);
        svg.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"));
    }

    fn legend(&self, svg: &mut Svg) {
        for (name, colour, at) in [("random", RANDOM, 260.0), ("dynamic", DYNAMIC, 330.0)] {
            svg.add(format_args!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>",
                self.x + at,
                self.y - 16.0
            ));
            svg.text(self.x + at + 14.0, self.y - 7.0, "start", 11.0, "#444", name);
        }
    }
}

//! The results as pictures: one bar for each system, in panels that each have a scale of their own.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    document::grouped,
    results::{Results, Summary},
    system::SystemName,
};

const SYSTEMS: [(SystemName, &str); 3] = [
    (SystemName::Pygmy, "#2a6f97"),
    (SystemName::Etcd, "#c8963e"),
    (SystemName::Postgres, "#8a8d91"),
];

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 190.0;
const VALUE_WIDTH: f64 = 110.0;
const BAR_HEIGHT: f64 = 15.0;
const BAR_GAP: f64 = 3.0;
const PANEL_GAP: f64 = 16.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 14.0;

/// A picture: file name, title, what its bars say, and its panels as phases with their labels.
struct Chart {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    value: fn(&Summary) -> Option<f64>,
    show: fn(f64) -> String,
    panels: &'static [(&'static str, &'static str)],
}

const OPERATIONS: &[(&str, &str)] = &[
    ("put-64", "put"),
    ("get-64", "linearizable read"),
    ("get-stale-64", "stale read"),
    ("buy-64", "buy a random item"),
    ("hot-64", "all buy the same item"),
];

const CHARTS: [Chart; 3] = [
    Chart {
        file: "bench-throughput.svg",
        title: "Operations a second, 64 clients",
        unit: "longer is better; each panel has its own scale",
        value: |summary| Some(summary.per_second),
        show: grouped,
        panels: OPERATIONS,
    },
    Chart {
        file: "bench-latency.svg",
        title: "99th percentile of latency in milliseconds, 64 clients",
        unit: "shorter is better; each panel has its own scale",
        value: |summary| summary.p99_us.map(|micros| micros / 1e3),
        show: |millis| format!("{millis:.1}"),
        panels: OPERATIONS,
    },
    Chart {
        file: "bench-clients.svg",
        title: "Purchases a second by the number of clients",
        unit: "longer is better; each panel has its own scale",
        value: |summary| Some(summary.per_second),
        show: grouped,
        panels: &[("buy-1", "1 client"), ("buy-64", "64 clients"), ("buy-256", "256 clients")],
    },
];

/// A picture that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// The file's name.
    pub file: &'static str,
    /// What it shows.
    pub title: &'static str,
}

/// Writes all pictures that there are figures for into a directory.
pub fn write_all(directory: &Path, results: &Results) -> Result<Vec<Picture>> {
    let mut written = Vec::new();
    for chart in &CHARTS {
        if let Some(picture) = chart.draw(results) {
            let file = directory.join(chart.file);
            fs::write(&file, picture)
                .with_context(|| format!("cannot write {}", file.display()))?;
            written.push(Picture { file: chart.file, title: chart.title });
        }
    }
    Ok(written)
}

impl Chart {
    fn draw(&self, results: &Results) -> Option<String> {
        let mut shown = Vec::new();
        let mut body = String::new();
        let mut y = TOP;
        for (phase, label) in self.panels {
            let bars: Vec<_> = SYSTEMS
                .iter()
                .filter_map(|(system, colour)| {
                    let summary = results.summary(phase, system.name())?;
                    Some((system.title(), *colour, (self.value)(&summary)?))
                })
                .collect();
            if bars.is_empty() {
                continue;
            }
            y = self.panel(&mut body, y, label, &bars) + PANEL_GAP;
            for (title, colour, _) in bars {
                if !shown.contains(&(title, colour)) {
                    shown.push((title, colour));
                }
            }
        }
        if shown.is_empty() {
            return None;
        }
        let height = y - PANEL_GAP + BOTTOM;
        let mut legend = String::new();
        let mut x = 16.0;
        for (title, colour) in shown {
            put(
                &mut legend,
                format_args!(
                    "<rect x=\"{x}\" y=\"48\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"58\">{title}</text>\n",
                    x + 17.0
                ),
            );
            x += 110.0;
        }
        Some(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#222\" \
             role=\"img\">\n<title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"600\">{title}</text>\n\
             <text x=\"16\" y=\"40\" fill=\"#666\" font-size=\"11\">{}</text>\n{legend}{body}</svg>\n",
            self.unit,
            title = self.title,
        ))
    }

    /// Draws a panel and gives where it ends.
    fn panel(&self, body: &mut String, top: f64, label: &str, bars: &[(&str, &str, f64)]) -> f64 {
        let most = bars.iter().map(|(.., value)| *value).fold(f64::MIN_POSITIVE, f64::max);
        let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
        let end = top + bars.len() as f64 * (BAR_HEIGHT + BAR_GAP) - BAR_GAP;
        put(
            body,
            format_args!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
                LABEL_WIDTH - 12.0,
                (top + end) / 2.0 + 4.0,
            ),
        );
        for (place, (title, colour, value)) in bars.iter().enumerate() {
            let y = top + place as f64 * (BAR_HEIGHT + BAR_GAP);
            let length = (value / most * room).max(1.0);
            let text = (self.show)(*value);
            put(
                body,
                format_args!(
                    "<rect x=\"{LABEL_WIDTH}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\" \
                 fill=\"{colour}\"><title>{title}: {text}</title></rect>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{text}</text>\n",
                    LABEL_WIDTH + length + 6.0,
                    y + BAR_HEIGHT - 3.5,
                ),
            );
        }
        end
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::results;

    #[test]
    fn the_longest_bar_fills_its_panel_and_what_was_not_measured_is_left_out() {
        let results = results(&[
            (1, "put-64", "pygmy", 2_000.0),
            (1, "put-64", "etcd", 1_000.0),
            (1, "get-64", "pygmy", 30_000.0),
        ]);
        let picture = CHARTS[0].draw(&results).unwrap();
        let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
        assert_eq!(picture.matches(&format!("width=\"{room:.1}\"")).count(), 2, "{picture}");
        assert_eq!(picture.matches(&format!("width=\"{:.1}\"", room / 2.0)).count(), 1);
        assert!(picture.contains(">30,000<") && picture.contains(">etcd<"), "{picture}");
        assert!(!picture.contains("PostgreSQL") && !picture.contains("stale"), "{picture}");
        assert!(CHARTS[2].draw(&results).is_none());
    }
}

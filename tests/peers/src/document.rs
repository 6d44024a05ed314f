//! The table in the document, between two marks; the rest of it is written by people.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    chart::Picture,
    phase::PHASES,
    results::{Results, Summary},
    system::SystemName,
};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

const PYGMY: &str = "pygmy";
const OTHERS: [SystemName; 2] = [SystemName::Etcd, SystemName::Postgres];

/// Puts the results into a document that has the marks, with pictures that are beside it.
pub fn update(file: &Path, results: &Results, pictures: &[Picture]) -> Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut new = markdown(results);
    for Picture { file, title } in pictures {
        new += &format!("\n![{title}]({file})\n");
    }
    let Some(text) = replaced(&text, &new) else {
        bail!("{} has no line `{BEGIN}` with a line `{END}` after it", file.display());
    };
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn replaced(text: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{new}\n{END}{after}"))
}

/// The results as Markdown.
pub fn markdown(results: &Results) -> String {
    let measured: BTreeSet<_> =
        results.measurements.iter().map(|one| one.system.as_str()).collect();
    let others: Vec<_> =
        OTHERS.into_iter().filter(|system| measured.contains(system.name())).collect();
    let mut text = String::from("| operations a second | Pygmy | p50 ms | p99 ms |");
    let mut rule = String::from("|---|--:|--:|--:|");
    for system in &others {
        write!(text, " {} | p50 ms | p99 ms | Pygmy is |", system.title())
            .expect("writing to a string cannot fail");
        rule += "--:|--:|--:|--:|";
    }
    text = format!("{text}\n{rule}\n");
    let own = PHASES.iter().filter(|phase| phase.systems.contains(&SystemName::Pygmy));
    for phase in own {
        let Some(summary) = results.summary(phase.name, PYGMY) else { continue };
        text += &format!("| {} |{}", phase.title, cells(Some(summary), true));
        for system in &others {
            let summary = results.summary(phase.name, system.name());
            text += &cells(summary, false);
            let ratio = results.ratio(phase.name, PYGMY, system.name());
            text += &ratio.map_or(" |".into(), |ratio| format!(" {ratio:.1}x |"));
        }
        text.push('\n');
    }
    text + "\n" + &words(results)
}

fn cells(summary: Option<Summary>, is_own: bool) -> String {
    let Some(summary) = summary else { return " | | |".into() };
    let millis = |micros: Option<f64>| {
        micros.map_or_else(|| "-".into(), |micros| format!("{:.1}", micros / 1e3))
    };
    let rate = grouped(summary.per_second);
    let rate = if is_own { format!("**{rate}**") } else { rate };
    let failed = if summary.errors > 0 { " (some failed)" } else { "" };
    format!(" {rate}{failed} | {} | {} |", millis(summary.p50_us), millis(summary.p99_us))
}

/// 12345.6 is `12,346`.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn words(results: &Results) -> String {
    let settings = &results.settings;
    let machine = &settings.machine;
    let versions: Vec<_> = settings
        .versions
        .iter()
        .filter(|(name, _)| name.as_str() != SystemName::Hello.name())
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let mut text = format!(
        "Medians of {} rounds of {} s after {} s of load, {} items; ratios within one round. {}; \
         {} processors ({}), {:.0} GiB of memory, Linux {}, {}; writing 4 KiB and syncing it takes \
         {:.2} ms there. The generator runs on the same machine.\n",
        settings.rounds,
        settings.seconds,
        settings.warm_up_seconds,
        grouped(settings.items.into()),
        versions.join(", "),
        machine.processors,
        machine.processor,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.kernel,
        machine.filesystem,
        machine.sync_us as f64 / 1e3,
    );
    if let Some(hello) = results.summary("hello-64", SystemName::Hello.name()) {
        text += &format!(
            "The generator's own limit, a bare HTTP server on one thread: {} operations a second.\n",
            grouped(hello.per_second)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::results;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replaced(&text, "new").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&once, "new").unwrap(), once);
        assert_eq!(replaced("no marks", "new"), None);
        assert_eq!(replaced(&format!("{END} {BEGIN}"), "new"), None);
    }

    #[test]
    fn the_table_shows_what_was_measured_and_no_more() {
        let text = markdown(&results(&[
            (1, "put-64", "pygmy", 12_345.6),
            (1, "put-64", "etcd", 1_000.0),
            (1, "batch-16", "pygmy", 99_000.0),
            (1, "hello-64", "hello", 40_000.0),
        ]));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2],
            "| put an item, 64 clients | **12,346** | 1.0 | 4.0 | 1,000 | 1.0 | 4.0 | 12.3x |"
        );
        assert!(
            lines[3].starts_with("| atomic batches of 50 orders")
                && lines[3].ends_with("| | | | |")
        );
        assert!(
            !text.contains("PostgreSQL") && text.contains("40,000 operations a second"),
            "{text}"
        );
        let columns = |line: &str| line.matches('|').count();
        assert!(lines[..4].iter().all(|line| columns(line) == columns(lines[0])), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0.0, 999.4, 1_000.0, 1_234_567.0].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
